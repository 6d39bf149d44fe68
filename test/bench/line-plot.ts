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
const TICKS = 5;

/** The smallest of 1, 2, 2.5, 5 times a power of ten that gives no more than so many steps. */
const stepOf = (largest: number): number => {
  const power = 10 ** Math.floor(Math.log10(largest / TICKS));
  return ([1, 2, 2.5, 5, 10].find((factor) => largest / (factor * power) <= TICKS) ?? 10) * power;
};

const ticksTo = (largest: number): number[] => {
  const step = stepOf(largest);
  return Array.from({ length: Math.ceil(largest / step) + 1 }, (_, index) => Math.round(index * step * 1000) / 1000);
};

const text = (words: string, [x, y]: readonly [number, number], more = ""): string =>
  `<text x="${round(x)}" y="${round(y)}" ${more}>${words}</text>`;
const round = (value: number): number => Math.round(value * 10) / 10;

/** Points in their order, joined; dashed, the straight line from nothing through the last of them. */
const drawPanel = ({ title, xLabel, points }: Panel, left: number): string => {
  const [xTicks, yTicks] = [ticksTo(Math.max(...points.map(({ x }) => x))), ticksTo(Math.max(...points.map(({ y }) => y)))];
  const [width, height] = [WIDTH - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const bottom = MARGIN.top + height;
  const atX = (x: number): number => round(left + MARGIN.left + (x / (xTicks.at(-1) ?? 1)) * width);
  const atY = (y: number): number => round(bottom - (y / (yTicks.at(-1) ?? 1)) * height);
  const place = ({ x, y }: Point): string => `${atX(x)},${atY(y)}`;
  const last = points.at(-1) ?? { x: 0, y: 0 };
  return [
    text(title, [left + MARGIN.left, 22], 'font-weight="bold"'),
    ...yTicks.flatMap((tick) => [
      `<path d="M${atX(0)},${atY(tick)}h${width}" stroke="#ddd"/>`,
      text(`${tick}`, [atX(0) - 8, atY(tick) + 4], 'text-anchor="end"'),
    ]),
    ...xTicks.map((tick) => text(`${tick}`, [atX(tick), bottom + 18], 'text-anchor="middle"')),
    text(xLabel, [left + MARGIN.left + width / 2, bottom + 38], 'text-anchor="middle"'),
    `<path d="M${atX(0)},${atY(0)}L${place(last)}" stroke="#888" stroke-dasharray="4 4"/>`,
    `<polyline points="${points.map(place).join(" ")}" fill="none" stroke="#1f6feb" stroke-width="2"/>`,
    ...points.map((point) => `<circle cx="${atX(point.x)}" cy="${atY(point.y)}" r="3.5" fill="#1f6feb"/>`),
  ].join("\n");
};

/** One panel beside the other. `y` is in seconds in all of them. */
export const drawPlot = (panels: readonly Panel[]): string => {
  const width = panels.length * WIDTH;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${HEIGHT}" fill="#fff"/>`,
    ...panels.map((panel, index) => drawPanel(panel, index * WIDTH)),
    "</svg>",
  ].join("\n")}\n`;
};
