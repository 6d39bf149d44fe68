import { familiarName } from "@kiln/formats/oci/reference";
import { examples, type CommandSpec } from "../command-spec.ts";
import { parseNewName } from "../images/registry.ts";
import { escapeControl } from "../render/escape.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image>", "an image that is there: its name or its digest")
      .argument("<name>", "a further NAME[:TAG]; an image that has it loses it")
      .addHelpText("after", examples("kiln tag alpine:3.20 127.0.0.1:5000/team/base:1", "kiln tag oci:./web web")),
  run: async (context, command) => {
    const [source = "", target = ""] = command.args;
    parseNewName(target);
    const kiln = await context.connect();
    const image = await kiln.images.tag(source, target, { signal: context.signal });
    if (context.json) await context.printJson(image);
    else await context.print(`${escapeControl(familiarName(image.reference))}\n`);
  },
};
export default spec;
