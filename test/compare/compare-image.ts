/** One image, as Kiln builds it and as umoci unpacks it, entry by entry. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

/** Null where umoci refuses the image: then there is nothing to compare with. Throws what Kiln's build throws. */
export const compareImage = async (layout: Layout, options: Options): Promise<Comparison | null> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln-compare-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(scratch, { recursive: true }));
  const unpacked = await unpackOrNull(layout, scratch, options);
  if (unpacked === null) return null;
  const mounted = undo.use(await mountKiln(layout, scratch, options));
  const history = await readHistory(layout, options);
  const [ours, theirs] = [await listTree(mounted.root, options), await listTree(unpacked, options)];
  const compared = compareTrees(ours, theirs);
  return { ...compared, ours, layers: (await readLayers(layout)).length, ...explain(compared, { ours, theirs, ...history }) };
};

const unpackOrNull = async (layout: Layout, scratch: string, options: Options): Promise<string | null> => {
  try {
    return await unpackUmoci(layout, scratch, options);
  } catch (error) {
    if (error instanceof ToolError && error.code === "EXIT") return null;
    throw error;
  }
};
