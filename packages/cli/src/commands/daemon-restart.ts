import { examples, type CommandSpec } from "../command-spec.ts";
import { stopDaemon } from "../daemon/stop.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command.addHelpText(
      "after",
      `\nVMs run on, clients wait, and the new daemon goes on with what the old one was at.\n${examples("kiln daemon restart")}`,
    ),
  run: async (context) => {
    const wasRunning = await stopDaemon(context);
    const { ensureDaemon } = await import("../daemon/ensure.ts");
    await ensureDaemon({ home: await context.home(), env: context.host.env, signal: context.signal });
    const kiln = await context.client();
    const status = await kiln.daemon.status({ signal: context.signal });
    if (context.json) await context.printJson(status);
    else await context.print(`the daemon runs${wasRunning ? " again" : ""}: pid ${status.pid}, ${status.socket}\n`);
  },
};
export default spec;
