import { examples, type CommandSpec } from "../command-spec.ts";
import { declarePromoteOptions, promote, type PromoteOptions } from "./image-promote.ts";

const spec: CommandSpec = {
  configure: (command) =>
    declarePromoteOptions(command.argument("<vm>", "a VM that does not run").argument("<name>", "the new image's NAME[:TAG]")).addHelpText(
      "after",
      examples("kiln commit web web:2", 'kiln commit -m "with its data" web web:2'),
    ),
  run: async (context, command) => {
    const [vm = "", name = ""] = command.args;
    await promote(context, { vm, name, options: command.opts<PromoteOptions>() });
  },
};
export default spec;
