import assert from "node:assert/strict";
import { test } from "node:test";
import { drawDistribution } from "./distribution-plot.ts";
import { type KeptFigure, mergeFigures, renderPage } from "./figures-page.ts";
import { drawPlot } from "./line-plot.ts";
import { compare, type Samples } from "./measure.ts";
import { ticksTo } from "./svg.ts";

const NAMES = ["cli.start", "load.cold.fake", "density"];
const hundred: Samples = { ms: Array.from({ length: 100 }, (_, index) => index + 1), failures: 0 };

const keep = (name: string, date: string, ours: Samples = hundred): KeptFigure => ({
  figure: compare({
    ...{ name, ours, theirs: { floor: { ms: [40], failures: 0 } }, details: { "wall | clock": 12.345 } },
    goal: { field: "floor", max: 1.1 },
  }),
  ...{ machine: "2 cpus", date },
});

test("a run of some replaces their rows and leaves the others; a bench that is gone goes", () => {
  const before = [keep("density", "old"), keep("gone", "old"), keep("cli.start", "old")];
  const merged = mergeFigures(before, [keep("density", "new"), keep("load.cold.fake", "new")], NAMES);
  assert.deepEqual(
    merged.map(({ figure, date }) => `${figure.name} ${date}`),
    ["cli.start old", "load.cold.fake new", "density new"],
  );
});

test("each figure has a row with its percentiles, what it is compared to and its goal, and a part with all that was measured", () => {
  const page = renderPage([keep("density", "2026-01-02T03:04:05Z", { ...hundred, failures: 2 })]);
  const [row = ""] = page.split("\n").filter((line) => line.startsWith("| [density]"));
  assert.equal(row, "| [density](#density) | 100 | 50 ms | 95 ms | 99 ms | 2 | floor 40 ms: 1.25 | **missed**: floor: 1.25, at most 1.1 |");
  for (const words of [
    "Figures: 1; with a goal missed: 1; failures: 2. All on 2 cpus.",
    "    npm run -s bench -- density --write",
    "100 runs, 2026-01-02, on 2 cpus.",
    "![density: p50 50 ms, p99 99 ms](figures/density.svg)",
    "| wall \\| clock | 12.3 |",
  ]) {
    assert.ok(page.includes(words), `${words} is not in ${page}`);
  }
});

test("a figure of too few runs has no plot of how they are spread, and one with a plot of its own has that", () => {
  const few: Samples = { ms: [1, 2, 3], failures: 0 };
  assert.ok(!renderPage([keep("density", "2026-01-02", few)]).includes("!["));
  assert.ok(renderPage([keep("rootfs.scaling", "2026-01-02", few)]).includes("](rootfs-scaling.svg)"));
});

test("the spread of the values goes from the smallest to the largest in equal steps", () => {
  const { spread } = compare({ name: "x", ours: hundred, theirs: {} });
  assert.deepEqual([spread.length, spread[0], spread[25], spread[50]], [51, 1, 50, 100]);
});

test("ticks go from nothing to the first that is not below the largest value", () => {
  assert.deepEqual(ticksTo(9.27), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticksTo(10), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticksTo(0.3), [0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticksTo(0), [0, 1]);
});

/** Every element is closed, and none lies outside of the picture. */
const requireWhole = (svg: string): void => {
  const [, width = "", height = ""] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg) ?? [];
  for (const name of ["svg", "style", "text"]) assert.equal(svg.split(`<${name}`).length, svg.split(`</${name}>`).length, name);
  for (const [, x = "", y = ""] of svg.matchAll(/[ML](-?[\d.]+),(-?[\d.]+)/g)) {
    assert.ok(Number(x) >= 0 && Number(x) <= Number(width) && Number(y) >= 0 && Number(y) <= Number(height), `${x},${y}`);
  }
};

test("plots are whole, follow light and dark, and keep names for text", () => {
  const points = [10, 25, 500].map((x) => ({ x, y: x / 30 }));
  const line = drawPlot([{ title: "seconds", xLabel: "entries", points }]);
  const peers = { "umoci & <mke2fs>": 4_000, floor: 3 };
  const spread = drawDistribution({ name: "rootfs.build", unit: "ms", spread: [1, 2, 3, 900], p50: 2, p99: 900, peers });
  for (const svg of [line, spread]) {
    requireWhole(svg);
    assert.ok(svg.includes("prefers-color-scheme:dark"));
  }
  assert.ok(spread.includes("umoci &amp; &lt;mke2fs&gt;"));
});
