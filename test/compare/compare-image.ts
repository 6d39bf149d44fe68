/** One image, as Kiln builds it and as umoci unpacks it, entry by entry. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { ToolError } from "@kiln/std/node";
import { compareTrees, type Compared, type Difference } from "./differences.ts";
import { readHistory } from "./history.ts";
import { REASONS, type Sides } from "./reasons.ts";
import { listTree, type Tree } from "./tree.ts";
import { mountKiln, readLayers, unpackUmoci, type Layout } from "./unpack.ts";

interface Options {
  readonly signal: AbortSignal;
}

export interface Comparison extends Compared {
  readonly layers: number;
  readonly ours: Tree;
  /** How many differences each reason explains, by its id. */
  readonly explained: ReadonlyMap<string, readonly Difference[]>;
  readonly unexplained: readonly Difference[];
}

const explain = (compared: Compared, sides: Sides): Pick<Comparison, "explained" | "unexplained"> => {
  const explained = new Map<string, Difference[]>();
  const unexplained: Difference[] = [];
  for (const difference of compared.differences) {
    const reason = REASONS.find(({ explains }) => explains(difference, sides));
    if (reason === undefined) unexplained.push(difference);
    else explained.set(reason.id, [...(explained.get(reason.id) ?? []), difference]);
  }
  return { explained, unexplained };
};

/** The same image, where Kiln gets it in other words. */
export interface Layouts {
  readonly ours: Layout;
  readonly theirs: Layout;
  /** Whether Kiln builds it in a thread of its own, as the daemon does. */
  readonly inThread: boolean;
}

/**
 * Null where umoci refuses the image: then there is nothing to compare with, and Kiln either refuses it too or makes a clean file system.
 * Throws what Kiln's build throws.
 */
export const compareImage = async (layouts: Layouts, options: Options): Promise<Comparison | null> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln-compare-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(scratch, { recursive: true }));
  const unpacked = await unpackOrNull(layouts.theirs, scratch, options);
  if (unpacked === null) {
    await buildOrRefuse(layouts, scratch, options);
    return null;
  }
  const mounted = undo.use(await mountKiln(layouts.ours, scratch, { ...options, inThread: layouts.inThread }));
  const history = await readHistory(layouts.theirs, options);
  const [ours, theirs] = [await listTree(mounted.root, options), await listTree(unpacked, options)];
  const compared = compareTrees(ours, theirs);
  return { ...compared, ours, layers: (await readLayers(layouts.ours)).length, ...explain(compared, { ours, theirs, ...history }) };
};

const buildOrRefuse = async ({ ours, inThread }: Layouts, scratch: string, options: Options): Promise<void> => {
  try {
    await using _mounted = await mountKiln(ours, scratch, { ...options, inThread });
  } catch (error) {
    if (!(error instanceof KilnError) || error.code !== "LAYER_INVALID") throw error;
  }
};

const unpackOrNull = async (layout: Layout, scratch: string, options: Options): Promise<string | null> => {
  try {
    return await unpackUmoci(layout, scratch, options);
  } catch (error) {
    if (error instanceof ToolError && error.code === "EXIT") return null;
    throw error;
  }
};
