/** What the plots of the docs are drawn with: one look, in light and in dark. */

type Place = readonly [x: number, y: number];

const TICKS = 5;

/** The smallest of 1, 2, 2.5, 5 times a power of ten that gives no more than so many steps. */
const stepOf = (largest: number, steps: number): number => {
  const power = 10 ** Math.floor(Math.log10(largest / steps));
  return ([1, 2, 2.5, 5, 10].find((factor) => largest / (factor * power) <= steps) ?? 10) * power;
};

/** From nothing to the first that is not below the largest value. */
export const ticksTo = (largest: number, steps: number = TICKS): number[] => {
  if (largest <= 0) return [0, 1];
  const step = stepOf(largest, steps);
  return Array.from({ length: Math.ceil(largest / step - 1e-9) + 1 }, (_, index) => Number((index * step).toPrecision(6)));
};

export const round = (value: number): number => Math.round(value * 10) / 10;

const escapeText = (words: string): string => words.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign] ?? sign);

export const text = (words: string, [x, y]: Place, more = ""): string =>
  `<text x="${round(x)}" y="${round(y)}"${more === "" ? "" : ` ${more}`}>${escapeText(words)}</text>`;

/** `kind` is one of the classes below. */
export const path = (kind: "grid" | "compared" | "line" | "mark", d: string): string => `<path class="${kind}" d="${d}"/>`;

export const joined = (points: readonly Place[]): string => `M${points.map(([x, y]) => `${round(x)},${round(y)}`).join("L")}`;

export const dot = ([x, y]: Place): string => `<circle class="dot" cx="${round(x)}" cy="${round(y)}" r="3.5"/>`;

/** An image in a page follows the reader's light or dark; where that is not told it is light, on a ground of its own. */
const LOOK = `<style>
.ground{fill:#fff}text{fill:#24292f}.quiet{fill:#57606a}.beside{stroke:#fff;stroke-width:4;paint-order:stroke}path{fill:none}.grid{stroke:#d8dee4}.compared{stroke:#8c959f;stroke-dasharray:4 4}
.line{stroke:#0969da;stroke-width:2}.mark{stroke:#0969da}.dot{fill:#0969da}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}.quiet{fill:#9198a1}.beside{stroke:#0d1117}.grid{stroke:#30363d}.compared{stroke:#848d97}
.line,.mark{stroke:#4493f8}.dot{fill:#4493f8}}
</style>`;

export const drawSvg = ({ width, height }: { readonly width: number; readonly height: number }, parts: readonly string[]): string =>
  `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    LOOK,
    `<rect class="ground" width="${width}" height="${height}"/>`,
    ...parts,
    "</svg>",
  ].join("\n")}\n`;
