/** What is compared: real images, and generated ones. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { debianDev, distrolessLike, scratchBinary, type TestImage } from "../fixtures/images.ts";
import { compareImage, type Comparison } from "./compare-image.ts";
import { writeLayouts } from "./generated.ts";
import { stacks, type Stack } from "./stack.ts";

interface Options {
  readonly signal: AbortSignal;
}

export const IMAGES: Readonly<Record<string, (options: Options) => Promise<TestImage>>> = {
  "Debian with Python, Node and git": debianDev,
  "distroless-like": distrolessLike,
  "scratch with one binary": scratchBinary,
};

/** The same stacks at each run, so that the table changes only if something else does. */
const SEED = 20_260_801;
const STACKS = 200;
export const GENERATED = `${STACKS} generated images`;

/** One comparison, or several added up. */
export interface Row {
  readonly image: string;
  readonly comparisons: readonly Comparison[];
  /** Images that umoci does not unpack. */
  readonly refused: number;
}

export const compareNamed = async (image: string, options: Options): Promise<Row> => {
  const { layout, tag } = (await IMAGES[image]?.(options)) ?? { layout: "", tag: "" };
  const found = { directory: layout, tag };
  const comparison = await compareImage({ ours: found, theirs: found, inThread: true }, options);
  if (comparison === null) throw new Error(`umoci does not unpack ${layout}:${tag}`);
  return { image, comparisons: [comparison], refused: 0 };
};

/** Null where umoci refuses it. */
export const compareStack = async (stack: Stack, options: Options): Promise<Comparison | null> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln-stack-"));
  try {
    return await compareImage({ ...(await writeLayouts(stack, scratch, options)), inThread: false }, options);
  } finally {
    await rm(scratch, { recursive: true });
  }
};

export const compareGenerated = async (options: Options): Promise<Row> => {
  const comparisons: Comparison[] = [];
  for (const stack of fc.sample(stacks, { seed: SEED, numRuns: STACKS })) {
    const comparison = await compareStack(stack, options);
    if (comparison !== null) comparisons.push(comparison);
  }
  return { image: GENERATED, comparisons, refused: STACKS - comparisons.length };
};
