import { parseSeconds } from "../arguments/numbers.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-t, --time <seconds>", "how long the command has to end before it is killed (default: 10)", parseSeconds)
      .addHelpText("after", examples("kiln stop web", "kiln stop -t 60 db web")),
  run: async (context, command) => {
    const { time: timeoutMs } = command.opts<{ readonly time?: number }>();
    const kiln = await context.connect();
    const { signal } = context;
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
