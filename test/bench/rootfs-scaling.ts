import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import { readLayers } from "../compare/unpack.ts";
import { manyBytes, manyFiles, type GeneratedImage, type GeneratedStage } from "../fixtures/generated-image.ts";
import { ROOT } from "./home.ts";
import { drawPlot, type Panel } from "./line-plot.ts";
import { compare, type Figure } from "./measure.ts";
import { openScratch } from "./rootfs-build.ts";
import type { RootfsRun } from "./rootfs-once.ts";
import { buildOnce } from "./rootfs-ways.ts";

const NAME = "rootfs.scaling";
/** From here on what every build costs, whatever its size, is little beside the rest. */
const FROM = { contentBytes: 2 ** 28, entries: 50_000 } as const;
/** What a byte or an entry of the largest may cost, beside one of the first that counts. */
const MAX_GROWTH = 1.25;

const signal = new AbortController().signal;

const PLOT = join(ROOT, "docs/rootfs-scaling.svg");

interface ScalingPoint {
  readonly stage: GeneratedStage;
  readonly run: RootfsRun;
}

const runStages = async (image: GeneratedImage, scratch: string): Promise<ScalingPoint[]> => {
  const points: ScalingPoint[] = [];
  for (const stage of image.stages) {
    const target = join(scratch, "kiln.ext4");
    await rm(target, { force: true });
    await runTool("sync", [], { signal });
    points.push({ stage, run: await buildOnce(await readLayers({ directory: image.layout, tag: stage.tag }), target) });
  }
  return points;
};

/** CPU time of one unit at the largest, divided by that at the first that counts: other work of the machine is not in it. */
const growth = (points: readonly ScalingPoint[], unit: "contentBytes" | "entries"): number => {
  const cost = (point: ScalingPoint | undefined): number => (point === undefined ? Number.NaN : point.run.cpuMs / point.stage[unit]);
  const ratio = cost(points.at(-1)) / cost(points.find(({ stage }) => stage[unit] >= FROM[unit]));
  return Math.round(ratio * 1000) / 1000;
};

const panelOf = (points: readonly ScalingPoint[], words: Omit<Panel, "points">, of: (stage: GeneratedStage) => number): Panel => ({
  ...words,
  points: points.map(({ stage, run }) => ({ x: of(stage), y: run.ms / 1000 })),
});

/**
 * Builds of 64 MiB to 2 GiB, and of 10,000 to 500,000 entries, once each. The time of the figure is that of the largest two.
 * With `write` the plot of the docs is drawn again.
 */
export const benchRootfsScaling = async ({ write }: { readonly write: boolean }): Promise<Figure> => {
  await using scratch = await openScratch(NAME);
  const content = await runStages(await manyBytes({ signal }), scratch.path);
  const files = await runStages(await manyFiles({ signal }), scratch.path);
  if (write) {
    const panels = [
      panelOf(content, { title: "seconds by content", xLabel: "GiB of content" }, ({ contentBytes }) => contentBytes / 2 ** 30),
      panelOf(files, { title: "seconds by entries", xLabel: "thousands of entries" }, ({ entries }) => entries / 1000),
    ];
    await writeFile(PLOT, drawPlot(panels));
  }
  const seconds = ({ run }: ScalingPoint): number => Math.round(run.ms / 10) / 100;
  const details = {
    "growth by bytes": growth(content, "contentBytes"),
    "growth by entries": growth(files, "entries"),
    ...Object.fromEntries(content.map((point) => [`${point.stage.contentBytes / 2 ** 20} MiB, s`, seconds(point)])),
    ...Object.fromEntries(files.map((point) => [`${point.stage.entries} entries, s`, seconds(point)])),
    ...Object.fromEntries(files.map(({ stage, run }) => [`${stage.entries} entries, RSS MiB`, Math.round(run.peakBytes / 2 ** 20)])),
  };
  return compare({
    name: NAME,
    ours: { ms: [content.at(-1), files.at(-1)].flatMap((point) => (point === undefined ? [] : [point.run.ms])), failures: 0 },
    theirs: {},
    details,
    goal: { field: "growth by bytes", max: MAX_GROWTH },
    furtherGoals: [
      { field: "growth by entries", max: MAX_GROWTH },
      { field: "200000 entries, RSS MiB", max: 200 },
      { field: "250000 entries, RSS MiB", max: 200 },
    ],
  });
};
