import { examples, type CommandSpec } from "../command-spec.ts";
import type { RegisterOptions } from "../images/register.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<file>", "what `kiln image export` has written")
      .option("-n, --name <name>", "NAME[:TAG] of the image (default: as it was exported)")
      .option("--replace", "the name may be that of another image, which loses it")
      .option("-q, --quiet", "show no progress, and print the digest only")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln image import tool.kiln", "kiln image import tool.kiln --name tool:2 --replace")),
  run: async (context, command) => {
    const options = command.opts<RegisterOptions>();
    const { parseNewName } = await import("../images/registry.ts");
    const { sendAndFollow } = await import("../images/register.ts");
    const name = options.name === undefined ? undefined : parseNewName(options.name);
    const { replace } = options;
    return sendAndFollow(context, { args: command.args, options }, (kiln, file) => kiln.images.import(file, { name, replace }));
  },
};
export default spec;
