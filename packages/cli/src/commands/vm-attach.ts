import { examples, type CommandSpec } from "../command-spec.ts";
import { relayToEnd } from "../guest/foreground.ts";

interface AttachOptions {
  readonly stdin?: boolean;
  readonly sigProxy?: boolean;
}

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a VM")
      .option("--no-stdin", "do not give it this command's stdin")
      .option("--no-sig-proxy", "keep signals to this command")
      .addHelpText("after", examples("kiln attach web", "kiln attach --no-stdin web")),
  run: async (context, command) => {
    const [name = ""] = command.args;
    const options = command.opts<AttachOptions>();
    const kiln = await context.connect();
    const vm = await kiln.vms.get(name, { signal: context.signal });
    const shape = vm;
    const stdin = options.stdin !== false && shape.stdin;
    await using session = kiln.vms.attach(vm.id, { stdin, signal: context.signal });
    await session.started;
    return await relayToEnd(context, session, { tty: shape.tty, stdin, proxySignals: options.sigProxy !== false });
  },
};
export default spec;
