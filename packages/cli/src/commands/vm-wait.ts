import { exitCodeOf } from "../arguments/signals.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";

const spec: CommandSpec = {
  configure: (command) => command.argument("<name...>", "VMs").addHelpText("after", examples("kiln wait job", "exit $(kiln wait job)")),
  run: async (context, command) => {
    const kiln = await context.connect();
    return forEachName(context, {
      names: command.args,
      act: (name) => kiln.vms.wait(name, { signal: context.signal }),
      print: (vm) => String(exitCodeOf(vm)),
    });
  },
};
export default spec;
