import { familiarName } from "@kiln/formats/oci/reference";
import type { ImageView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "../context.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";
import type { ArchivedImage } from "./archive/image-archive.ts";
import { openArchive, type OpenArchive } from "./archive/open-archive.ts";
import { sendImage, unpacking } from "./import.ts";
import { temporaryDirectory } from "./local-image.ts";
import { parseNewName } from "./registry.ts";
import { resolveFrom } from "./split-path.ts";

export interface Loading {
  /** null is stdin. */
  readonly path: string | null;
  /** What the archive's only image is to be called. */
  readonly name: string | null;
  readonly platform: string | null;
  readonly quiet: boolean;
}

/** docker's `load`: each image of an archive under each of its names. */
export const loadArchive = async (context: CommandContext, loading: Loading): Promise<void> => {
  const asked = loading.name === null ? null : parseNewName(loading.name);
  const source = sourceOf(context, loading.path);
  const kiln = await context.connect();
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet: loading.quiet });
  await using stack = new AsyncDisposableStack();
  const name = loading.path ?? "stdin";
  const onUnpacked = (bytes: number) => progress.show("", unpacking(name, bytes));
  const archive = await openArchive(
    { source, name, form: null, temporaryDirectory: await temporaryDirectory(context), onUnpacked, signal: context.signal },
    stack,
  );
  await progress.clear("");
  const loaded: ImageView[] = [];
  for (const { image, reference } of named(archive.images, { archive: name, asked })) {
    const local = { root: await image.readRoot(), tag: null, readBlob: (digest: string) => archive.readBlob(digest) };
    const sent = await sendImage(context, kiln, { reference, platform: loading.platform, progress, image: local });
    await progress.clear(reference);
    loaded.push(sent.image);
    if (!context.json) await context.print(`Loaded image: ${escapeControl(familiarName(sent.image.reference))}\n`);
  }
  if (context.json) await context.printJson(loaded);
  await noteNameless(context, archive.images, asked);
};

const sourceOf = (context: CommandContext, path: string | null): OpenArchive["source"] => {
  const { stdin, cwd } = context.host;
  if (path !== null) return { path: resolveFrom(cwd, path) };
  if (stdin.isTTY)
    throw new KilnError("USAGE", "the archive is read from stdin, which is a terminal", { hint: "name a file with -i FILE" });
  return { stream: untilAborted(stdin, context.signal) };
};

/** A stream that says nothing would hold an interrupted command for ever. */
async function* untilAborted(stream: NodeJS.ReadStream, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stop = () => stream.destroy(signal.reason instanceof Error ? signal.reason : new KilnError("CANCELLED", "interrupted"));
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

interface Named {
  readonly image: ArchivedImage;
  readonly reference: string;
}

/** What is to be loaded under which name. Throws USAGE where a name is missing or fits several images. */
const named = (
  images: readonly ArchivedImage[],
  { archive, asked }: { readonly archive: string; readonly asked: string | null },
): Named[] => {
  const [only] = images;
  if (only === undefined) throw new KilnError("IMAGE_INVALID", `${archive}: it holds no image`, { object: archive });
  if (asked !== null) {
    if (images.length === 1) return [{ image: only, reference: asked }];
    throw new KilnError("USAGE", `--name: ${archive} holds ${images.length} images, and one name is for one of them`, {
      hint: "leave out --name, or run one of them as docker-archive:FILE:NAME",
    });
  }
  const all = images.flatMap((image) => image.names.map((reference) => ({ image, reference })));
  if (all.length > 0) return all;
  throw new KilnError("USAGE", `${archive}: the archive gives its ${images.length === 1 ? "image" : "images"} no name`, {
    object: archive,
    hint: images.length === 1 ? "name it with --name NAME[:TAG]" : "load them from archives of one image each, with --name NAME[:TAG]",
  });
};

const noteNameless = async (context: CommandContext, images: readonly ArchivedImage[], asked: string | null): Promise<void> => {
  if (asked !== null) return;
  for (const image of images.filter((one) => one.names.length === 0))
    await context.note(`kiln: ${escapeControl(image.label)} has no name in the archive, and was left out\n`);
};
