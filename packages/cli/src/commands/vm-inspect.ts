import { examples, type CommandSpec } from "../command-spec.ts";
import { printObjects } from "../inspect.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command.argument("<name...>", "VMs").addHelpText("after", examples("kiln inspect web", "kiln inspect --json web | jq .bootId")),
  run: async (context, command) => {
    const kiln = await context.connect();
    return printObjects(context, command.args, (name) => kiln.vms.get(name, { signal: context.signal }));
  },
};
export default spec;
