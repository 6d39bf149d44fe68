import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "../context.ts";
import { ProgressBlock } from "../render/progress.ts";
import { findTarget, writeOutput } from "./output-file.ts";
import { planArchive } from "./saved-archive.ts";
import { resolveFrom } from "./split-path.ts";

export interface Saving {
  readonly images: readonly string[];
  /** null is stdout. */
  readonly output: string | null;
  readonly quiet: boolean;
}

/** docker's `save`, as an archive that is an OCI layout too. */
export const saveImages = async (context: CommandContext, saving: Saving): Promise<void> => {
  const { output } = saving;
  if (output === null && context.host.stdout.isTTY)
    throw new KilnError("USAGE", "the archive is written to stdout, which is a terminal", {
      hint: "name a file with -o FILE, or redirect stdout",
    });
  const target = output === null ? null : await findTarget(output, resolveFrom(context.host.cwd, output), "kiln save …");
  const kiln = await context.connect();
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet: saving.quiet });
  const archive = await planArchive(kiln, saving.images, { signal: context.signal });
  const state = { phase: `saving ${saving.images.join(", ")}`, position: null, total: archive.sizeBytes, unit: "bytes" };
  let done = 0;
  const count = (bytes: number): void => {
    done += bytes;
    progress.show("", { ...state, done });
  };
  await writeOutput(context, { target, chunks: archive.write(), count });
  if (target === null) return;
  if (context.json) await context.printJson({ output: target, sizeBytes: done, images: archive.names });
};
