import { KilnError } from "@kiln/protocol/errors";
import { parseSeconds } from "../arguments/numbers.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { beginEach, followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

const ignoreStopped = (error: unknown): void => {
  if (!(error instanceof KilnError && error.code === "VM_NOT_RUNNING")) throw error;
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs; those that are stopped are started")
      .option("-t, --time <seconds>", "how long the command has to end before it is killed (default: 10)", parseSeconds)
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln restart web", "kiln restart -t 60 --no-wait web")),
  run: async (context, command) => {
    const { time: timeoutMs, wait } = command.opts<{ readonly time?: number; readonly wait?: boolean }>();
    const kiln = await context.connect();
    const { signal } = context;
    if (wait === false) {
      // the operations of one VM go one after another: the start waits for the stop
      return beginEach(context, command.args, async (name) => {
        await kiln.vms.stop(name, { timeoutMs, signal });
        return kiln.vms.start(name, { signal });
      });
    }
    await using progress = new ProgressBlock(context.host, { json: context.json });
    const stop = async (name: string): Promise<void> => {
      await followOperation(context, await kiln.vms.stop(name, { timeoutMs, signal }), { kiln, progress, cancel: false });
    };
    return await forEachName(context, {
      names: command.args,
      act: async (name) => {
        await stop(name).catch(ignoreStopped);
        await followOperation(context, await kiln.vms.start(name, { signal }), { kiln, progress, cancel: true });
        return kiln.vms.get(name, { signal });
      },
      print: (_, name) => name,
    });
  },
};
export default spec;
