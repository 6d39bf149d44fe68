import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "references, as `kiln images` shows them")
      .option("-f, --force", "one that is not there is no error")
      .addHelpText("after", examples("kiln rmi deb:busybox-static")),
  run: async (context, command) => {
    const { force = false } = command.opts<{ readonly force?: boolean }>();
    const kiln = await context.connect();
    return forEachName(context, {
      names: command.args,
      act: async (reference) => {
        try {
          await kiln.images.remove(reference, { signal: context.signal });
          return { reference, removed: true };
        } catch (error) {
          if (force && error instanceof KilnError && error.code === "IMAGE_NOT_FOUND") return { reference, removed: false };
          throw error;
        }
      },
      print: ({ removed }, reference) => (removed ? reference : null),
    });
  },
};
export default spec;
