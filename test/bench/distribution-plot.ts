import { drawSvg, joined, path, text, ticksTo } from "./svg.ts";

/** How the values of a figure are spread, as a small SVG. */
export interface Distribution {
  readonly name: string;
  readonly unit: string;
  /** The values at equal steps from the smallest (0 %) to the largest (100 %). */
  readonly spread: readonly number[];
  readonly p50: number;
  readonly p99: number;
  /** What it is compared to, by name. */
  readonly peers: Readonly<Record<string, number>>;
}

const WIDTH = 480;
const HEIGHT = 190;
const MARGIN = { left: 52, right: 24, top: 46, bottom: 42 };
const LETTER = 6.5;

interface Mark {
  readonly label: string;
  readonly at: number;
}

/** Beside its line, and on the other side where it would leave the picture. */
const label = (words: string, x: number, y: number): string => {
  const isLate = x + words.length * LETTER > WIDTH - 4;
  return text(words, [isLate ? x - 5 : x + 5, y], isLate ? 'class="beside" text-anchor="end"' : 'class="beside"');
};

/**
 * A line that rises from none to all of the runs: at each value, the share of them that took no more. Marked are p50 and p99; dashed, the p50 of what
 * it is compared to.
 */
export const drawDistribution = ({ name, unit, spread, p50, p99, peers }: Distribution): string => {
  const others = Object.entries(peers).map(([peer, at]): Mark => ({ label: peer, at }));
  const ticks = ticksTo(Math.max(...spread, p99, ...others.map(({ at }) => at)), 6);
  const [width, height] = [WIDTH - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const bottom = MARGIN.top + height;
  const atX = (value: number): number => MARGIN.left + (value / (ticks.at(-1) ?? 1)) * width;
  const atShare = (share: number): number => bottom - share * height;
  const marks: readonly Mark[] = [
    { label: "p50", at: p50 },
    { label: "p99", at: p99 },
  ];
  const upright = (value: number): string => `M${Math.round(atX(value) * 10) / 10},${MARGIN.top}v${height}`;
  return drawSvg({ width: WIDTH, height: HEIGHT }, [
    text(name, [MARGIN.left, 18], 'font-weight="bold"'),
    ...[0, 0.5, 1].flatMap((share) => [
      path("grid", `M${MARGIN.left},${atShare(share)}h${width}`),
      text(`${share * 100} %`, [MARGIN.left - 8, atShare(share) + 4], 'text-anchor="end" class="quiet"'),
    ]),
    ...ticks.map((tick) => text(tick.toLocaleString("en"), [atX(tick), bottom + 17], 'text-anchor="middle" class="quiet"')),
    text(unit, [MARGIN.left + width / 2, bottom + 35], 'text-anchor="middle" class="quiet"'),
    ...others.map((mark) => path("compared", upright(mark.at))),
    ...marks.flatMap((mark, index) => [path("mark", upright(mark.at)), label(mark.label, atX(mark.at), MARGIN.top - 4 - index * 11)]),
    path(
      "line",
      joined(spread.map((value, index): [number, number] => [atX(value), atShare(spread.length === 1 ? 1 : index / (spread.length - 1))])),
    ),
    ...others.map((mark, index) => label(mark.label, atX(mark.at), bottom - 6 - index * 16)),
  ]);
};
