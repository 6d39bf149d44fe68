import { daemonEnvironment, POOL_HELP } from "../daemon/pool-option.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { stopDaemon } from "../daemon/stop.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--pool <shapes>", POOL_HELP)
      .addHelpText(
        "after",
        `\nVMs run on, clients wait, and the new daemon goes on with what the old one was at.\n${examples("kiln daemon restart", "kiln daemon restart --pool 2:1x256m,1:2x1g")}`,
      ),
  run: async (context, command) => {
    const options = command.opts<{ readonly pool?: string }>();
    const wasRunning = await stopDaemon(context);
    const { ensureDaemon } = await import("../daemon/ensure.ts");
    await ensureDaemon({ home: await context.home(), env: daemonEnvironment(context.host.env, options), signal: context.signal });
    const kiln = await context.client();
    const status = await kiln.daemon.status({ signal: context.signal });
    if (context.json) await context.printJson(status);
    else await context.print(`the daemon runs${wasRunning ? " again" : ""}: pid ${status.pid}, ${status.socket}\n`);
  },
};
export default spec;
