import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable } from "../render/table.ts";
import { formatAge, formatBytes } from "../render/units.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("-q, --quiet", "print digests only")
      .option("--no-trunc", "do not shorten digests")
      .addHelpText("after", examples("kiln images", "kiln images --json")),
  run: async (context, command) => {
    const options = command.opts<{ readonly quiet?: boolean; readonly trunc?: boolean }>();
    const kiln = await context.connect();
    const images = await kiln.images.list({ signal: context.signal });
    const shorten = (digest: string) => (options.trunc !== false ? digest.slice(0, "sha256:".length + 12) : digest);
    if (context.json) return context.printJson(images);
    if (options.quiet === true) return context.print(images.map((image) => `${image.digest}\n`).join(""));
    const rows = images.map((image) => [
      image.reference,
      shorten(image.digest),
      image.platform,
      String(image.layers),
      formatBytes(image.sizeBytes),
      image.rootfsBytes === null ? "-" : formatBytes(image.rootfsBytes),
      formatAge(image.createdAt, Date.now()),
    ]);
    return context.print(renderTable(["IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE", "ROOTFS", "CREATED"], rows));
  },
};
export default spec;
