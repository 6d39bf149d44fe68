import { parseSeconds } from "../arguments/numbers.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { beginEach, followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-t, --time <seconds>", "how long the command has to end before it is killed (default: 10)", parseSeconds)
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln stop web", "kiln stop -t 60 db web", "kiln stop --no-wait web")),
  run: async (context, command) => {
    const { time: timeoutMs, wait } = command.opts<{ readonly time?: number; readonly wait?: boolean }>();
    const kiln = await context.connect();
    const { signal } = context;
    if (wait === false) return beginEach(context, command.args, (name) => kiln.vms.stop(name, { timeoutMs, signal }));
    await using progress = new ProgressBlock(context.host, { json: context.json });
    return await forEachName(context, {
      names: command.args,
      act: async (name) => {
        await followOperation(context, await kiln.vms.stop(name, { timeoutMs, signal }), { kiln, progress, cancel: false });
        return { name };
      },
      print: (_, name) => name,
    });
  },
};
export default spec;
