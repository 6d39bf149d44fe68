import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { findCommand } from "../program.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command.argument("[command...]", "words of a command").addHelpText("after", examples("kiln help run", "kiln help daemon status")),
  run: async (context, command) => {
    const program = command.parent ?? command;
    const found = await findCommand(program, command.args);
    if (found === null) throw new KilnError("USAGE", `unknown command '${command.args.join(" ")}'`, { hint: "see `kiln help`" });
    let text = "";
    found.configureOutput({ writeOut: (part) => void (text += part) }).outputHelp();
    await context.print(text);
  },
};
export default spec;
