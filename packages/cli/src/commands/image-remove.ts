import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { escapeControl } from "../render/escape.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "names, or digests and their beginnings, as `kiln images` shows them")
      .option("-f, --force", "one that is not there is no error")
      .addHelpText("after", examples("kiln rmi alpine:3.20", "kiln rmi 3f5b8a0c1d2e", "kiln rmi deb:busybox-static")),
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
      print: ({ removed }, reference) => (removed ? escapeControl(reference) : null),
    });
  },
};
export default spec;
