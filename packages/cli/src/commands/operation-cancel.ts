import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";

const spec: CommandSpec = {
  configure: (command) => command.argument("<id...>", "operations").addHelpText("after", examples("kiln op cancel op_0123456789abcdef")),
  run: async (context, command) => {
    const kiln = await context.connect();
    return forEachName(context, {
      names: command.args,
      act: (id) => kiln.operations.cancel(id, { signal: context.signal }),
      print: (_, id) => id,
    });
  },
};
export default spec;
