import type { ImportedImage, Kiln } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import type { ProgressBlock } from "../render/progress.ts";
import { openLocalImage, type LocalImage } from "./local-image.ts";
import type { LocalTransport } from "./transport.ts";

export interface Importing {
  readonly transport: LocalTransport;
  /** What the caller wrote, and the name that the image gets. */
  readonly reference: string;
  readonly platform: string | null;
  readonly progress: ProgressBlock;
}

/** Opens the layout or archive that a reference names, in this process, and sends the daemon what it lacks. */
export const importLocalImage = async (context: CommandContext, kiln: Kiln, importing: Importing): Promise<ImportedImage> => {
  const { reference, progress } = importing;
  await using stack = new AsyncDisposableStack();
  stack.defer(() => progress.clear(reference));
  const onUnpacked = (bytes: number) => progress.show(reference, unpacking(reference, bytes));
  const image = await openLocalImage(context, { ...importing, onUnpacked }, stack);
  return await sendImage(context, kiln, { ...importing, image });
};

/** Sends one image under a name. */
export const sendImage = (
  context: CommandContext,
  kiln: Kiln,
  sending: Omit<Importing, "transport"> & { readonly image: LocalImage },
): Promise<ImportedImage> => {
  const { reference, platform, progress, image } = sending;
  return kiln.images.importLayout({
    ...{ reference, platform, tag: image.tag, index: image.root, readBlob: image.readBlob, signal: context.signal },
    onProgress: ({ doneBytes, totalBytes }) =>
      progress.show(reference, { phase: `sending ${reference}`, position: null, done: doneBytes, total: totalBytes, unit: "bytes" }),
  });
};

export const unpacking = (name: string, bytes: number) => ({
  ...{ phase: `unpacking ${name}`, position: null, done: bytes, total: null, unit: "bytes" },
});
