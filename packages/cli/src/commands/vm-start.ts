import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { beforeCommand } from "../failure.ts";
import { attachAndStart } from "../guest/foreground.ts";
import { forEachName } from "../names.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { beginEach, followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

interface StartOptions {
  readonly attach?: boolean;
  readonly interactive?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

const attachOne = async (context: CommandContext, name: string, interactive: boolean): Promise<number> => {
  const kiln = await context.connect();
  const vm = await kiln.vms.get(name, { signal: context.signal });
  return attachAndStart(context, kiln, {
    id: vm.id,
    epoch: vm.epoch + 1,
    options: { tty: vm.tty, stdin: interactive, proxySignals: true },
  });
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-a, --attach", "attach to the command, and take its exit code")
      .option("-i, --interactive", "give it this command's stdin (with -a)")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln start web", "kiln start -a job", "kiln start --no-wait --json web db")),
  run: async (context, command) => {
    const options = command.opts<StartOptions>();
    const [first = "", ...more] = command.args;
    if (options.attach === true || options.interactive === true) {
      if (options.wait === false) throw new KilnError("USAGE", "--no-wait: a command that is attached to is waited for");
      if (more.length > 0) throw new KilnError("USAGE", "only one VM can be attached to at once");
      return attachOne(context, first, options.interactive ?? false).catch((thrown: unknown) => {
        throw beforeCommand(thrown);
      });
    }
    const kiln = await context.connect();
    const { signal } = context;
    if (options.wait === false) return beginEach(context, command.args, (name) => kiln.vms.start(name, { signal }));
    await using progress = new ProgressBlock(context.host, { json: context.json });
    return await forEachName(context, {
      names: command.args,
      act: async (name) => {
        await followOperation(context, await kiln.vms.start(name, { signal }), { kiln, progress, cancel: true });
        return kiln.vms.get(name, { signal });
      },
      print: (_, name) => name,
    });
  },
};
export default spec;
