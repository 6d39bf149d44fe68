import { examples, type CommandSpec } from "../command-spec.ts";
import { printObjects } from "../inspect.ts";

const spec: CommandSpec = {
  configure: (command) => command.argument("<id...>", "operations").addHelpText("after", examples("kiln op inspect op_0123456789abcdef")),
  run: async (context, command) => {
    const kiln = await context.connect();
    return printObjects(context, command.args, (id) => kiln.operations.get(id, { signal: context.signal }));
  },
};
export default spec;
