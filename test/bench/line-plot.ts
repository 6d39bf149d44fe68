import { dot, drawSvg, joined, path, text, ticksTo } from "./svg.ts";

/** Small multiples of points on a line as SVG, for a page of the docs. */
export interface Panel {
  readonly title: string;
  /** What is counted along the bottom, such as "GiB". */
  readonly xLabel: string;
  readonly points: readonly Point[];
}

interface Point {
  readonly x: number;
  /** Seconds. */
  readonly y: number;
}

const WIDTH = 420;
const HEIGHT = 300;
const MARGIN = { left: 56, right: 20, top: 40, bottom: 46 };

/** Points in their order, joined; dashed, the straight line from nothing through the last of them. */
const drawPanel = ({ title, xLabel, points }: Panel, left: number): string[] => {
  const [xTicks, yTicks] = [ticksTo(Math.max(...points.map(({ x }) => x))), ticksTo(Math.max(...points.map(({ y }) => y)))];
  const [width, height] = [WIDTH - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const bottom = MARGIN.top + height;
  const atX = (x: number): number => left + MARGIN.left + (x / (xTicks.at(-1) ?? 1)) * width;
  const atY = (y: number): number => bottom - (y / (yTicks.at(-1) ?? 1)) * height;
  const places = points.map(({ x, y }): [number, number] => [atX(x), atY(y)]);
  return [
    text(title, [left + MARGIN.left, 22], 'font-weight="bold"'),
    ...yTicks.flatMap((tick) => [
      path("grid", `M${atX(0)},${atY(tick)}h${width}`),
      text(`${tick}`, [atX(0) - 8, atY(tick) + 4], 'text-anchor="end"'),
    ]),
    ...xTicks.map((tick) => text(`${tick}`, [atX(tick), bottom + 18], 'text-anchor="middle"')),
    text(xLabel, [left + MARGIN.left + width / 2, bottom + 38], 'text-anchor="middle" class="quiet"'),
    path("compared", joined([[atX(0), atY(0)], places.at(-1) ?? [atX(0), atY(0)]])),
    path("line", joined(places)),
    ...places.map(dot),
  ];
};

/** One panel beside the other. `y` is in seconds in all of them. */
export const drawPlot = (panels: readonly Panel[]): string =>
  drawSvg(
    { width: panels.length * WIDTH, height: HEIGHT },
    panels.flatMap((panel, index) => drawPanel(panel, index * WIDTH)),
  );
