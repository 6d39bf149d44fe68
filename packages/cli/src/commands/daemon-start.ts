import { daemonEnvironment, POOL_HELP } from "../daemon/pool-option.ts";
import { examples, type CommandSpec } from "../command-spec.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--pool <shapes>", POOL_HELP)
      .addHelpText("after", examples("kiln daemon start", "kiln daemon start --pool 4", "kiln --home /srv/kiln daemon start")),
  run: async (context, command) => {
    const options = command.opts<{ readonly pool?: string }>();
    const { ensureDaemon } = await import("../daemon/ensure.ts");
    const { wasRunning } = await ensureDaemon({
      home: await context.home(),
      env: daemonEnvironment(context.host.env, options),
      signal: context.signal,
    });
    const kiln = await context.client();
    const status = await kiln.daemon.status({ signal: context.signal });
    if (context.json) await context.printJson(status);
    else if (wasRunning && options.pool !== undefined) {
      await context.print(`the daemon runs already: pid ${status.pid}; \`kiln daemon restart --pool ${options.pool}\` changes its pool\n`);
    } else await context.print(`the daemon ${wasRunning ? "runs already" : "runs"}: pid ${status.pid}, ${status.socket}\n`);
  },
};
export default spec;
