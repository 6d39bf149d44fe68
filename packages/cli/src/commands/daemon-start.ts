import { examples, type CommandSpec } from "../command-spec.ts";

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln daemon start", "kiln --home /srv/kiln daemon start")),
  run: async (context) => {
    const { ensureDaemon } = await import("../daemon/ensure.ts");
    const { wasRunning } = await ensureDaemon({ home: await context.home(), env: context.host.env, signal: context.signal });
    const kiln = await context.client();
    const status = await kiln.daemon.status({ signal: context.signal });
    if (context.json) await context.printJson(status);
    else await context.print(`the daemon ${wasRunning ? "runs already" : "runs"}: pid ${status.pid}, ${status.socket}\n`);
  },
};
export default spec;
