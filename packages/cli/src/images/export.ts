import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "../context.ts";
import { followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";
import { findTarget, writeOutput } from "./output-file.ts";
import { resolveFrom } from "./split-path.ts";

interface Exporting {
  readonly image: string;
  /** null is stdout. */
  readonly output: string | null;
  readonly quiet: boolean;
}

/** An image's rootfs and config as one file. */
export const exportImage = async (context: CommandContext, { image, output, quiet }: Exporting): Promise<void> => {
  if (output === null && context.host.stdout.isTTY)
    throw new KilnError("USAGE", "the bundle is written to stdout, which is a terminal", {
      hint: "name a file with -o FILE, or redirect stdout",
    });
  const target = output === null ? null : await findTarget(output, resolveFrom(context.host.cwd, output), "kiln image export …");
  const { signal } = context;
  const kiln = await context.connect();
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet });
  const { reference, platform } = await kiln.images.inspect(image, { signal });
  const operation = await kiln.images.pull(reference, { pull: "missing", platform, signal });
  await followOperation(context, operation, { kiln, progress, cancel: true });
  let done = 0;
  const state = { phase: `exporting ${image}`, position: null, total: null, unit: "bytes" };
  const count = (bytes: number): void => {
    done += bytes;
    progress.show("", { ...state, done });
  };
  await writeOutput(context, { target, chunks: await kiln.images.export(reference, { signal }), count });
  if (target !== null && context.json) await context.printJson({ output: target, sizeBytes: done, image: reference });
};
