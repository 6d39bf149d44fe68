import { familiarName } from "@kiln/formats/oci/reference";
import type { ImageView } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { matchesImage } from "../images/image-filter.ts";
import { renderTable } from "../render/table.ts";
import { formatAge, formatBytes, shortDigest } from "../render/units.ts";

interface ListOptions {
  readonly quiet?: boolean;
  readonly digests?: boolean;
  /** false with --no-trunc; commander sets no default for options that are declared late. */
  readonly trunc?: boolean;
}

export const renderImages = (images: readonly ImageView[], options: { readonly nowMs: number; readonly truncate: boolean }): string =>
  renderTable(
    ["IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE", "ROOTFS", "CREATED"],
    images.map((image) => [
      familiarName(image.reference),
      options.truncate ? shortDigest(image.digest) : image.digest,
      image.platform,
      String(image.layers),
      formatBytes(image.sizeBytes),
      image.rootfsBytes === null ? "-" : formatBytes(image.rootfsBytes),
      formatAge(image.createdAt, options.nowMs),
    ]),
  );

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("[name]", "only images of this name; without a tag those of all its tags")
      .option("-q, --quiet", "print digests only")
      .option("--digests", "show digests as a whole")
      .option("--no-trunc", "do not shorten digests")
      .addHelpText("after", examples("kiln images", "kiln images debian", "kiln images --digests alpine:3.20", "kiln images --json")),
  run: async (context, command) => {
    const options = command.opts<ListOptions>();
    const [name] = command.args;
    const matches = name === undefined ? () => true : matchesImage(name);
    const kiln = await context.connect();
    const images = (await kiln.images.list({ signal: context.signal })).filter(matches);
    if (context.json) return context.printJson(images);
    if (options.quiet === true) return context.print(images.map((image) => `${image.digest}\n`).join(""));
    return context.print(renderImages(images, { nowMs: Date.now(), truncate: options.trunc !== false && options.digests !== true }));
  },
};
export default spec;
