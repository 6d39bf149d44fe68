import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image>", "an image that is there: its name, or its digest or the beginning of that")
      .option("-o, --output <file>", "write to a file (default: stdout, if that is no terminal)")
      .option("-q, --quiet", "show no progress")
      .addHelpText(
        "after",
        `\nThe bundle is a tar packed by zstd: manifest.json, rootfs.ext4, and sha256, which \`sha256sum -c\` reads.\n${examples(
          "kiln image export -o tool.kiln tool:1",
          "kiln image export tool:1 | ssh host 'cat > tool.kiln && kiln image import tool.kiln'",
        )}`,
      ),
  run: async (context, command) => {
    const { output, quiet } = command.opts<{ readonly output?: string; readonly quiet?: boolean }>();
    const [image, ...more] = command.args;
    if (image === undefined || more.length > 0) throw new KilnError("USAGE", "one image becomes a bundle");
    const { exportImage } = await import("../images/export.ts");
    return exportImage(context, { image, output: output ?? null, quiet: quiet ?? false });
  },
};
export default spec;
