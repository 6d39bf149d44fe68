import type { ImageView } from "@kiln/protocol";
import type { Kiln } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import type { ProgressLine } from "../render/progress.ts";
import { openLayout, parseLayoutReference } from "./layout.ts";

export interface ImportResult {
  readonly image: ImageView;
  readonly sentBytes: number;
}

/** Opens the layout that an `oci:` reference names, in this process, and sends the daemon what it lacks. */
export const importLayout = async (
  context: CommandContext,
  kiln: Kiln,
  from: { readonly reference: string; readonly progress: ProgressLine },
): Promise<ImportResult> => {
  const { cwd } = context.host;
  const source = await parseLayoutReference(from.reference, cwd);
  const layout = await openLayout(source, cwd);
  return kiln.images.importLayout({
    reference: source.reference,
    tag: source.tag,
    index: layout.index,
    readBlob: (digest) => layout.readBlob(digest),
    signal: context.signal,
    onProgress: ({ doneBytes, totalBytes }) =>
      from.progress.show({ phase: `sending ${source.reference}`, position: null, done: doneBytes, total: totalBytes, unit: "bytes" }),
  });
};
