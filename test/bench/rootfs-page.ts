import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "./home.ts";
import type { Figure } from "./measure.ts";

const PAGE = join(ROOT, "docs/rootfs-factory.md");
const PEERS = ["floor", "umoci+mke2fs", "skopeo+tar+genext2fs"] as const;
const COMPARED = ["rootfs.build", "rootfs.content", "rootfs.files"];
const SCALING = "rootfs.scaling";

const seconds = (ms: number | string | null | undefined): string => (typeof ms === "number" ? `${(ms / 1000).toFixed(2)} s` : "-");

const peerCell = (figure: Figure, peer: string): string => {
  const ratio = figure.ratios[peer];
  return ratio === undefined ? "-" : `${seconds(figure.details[`${peer}.p50`])}: ${ratio.toFixed(2)}`;
};

const comparedRow = (figure: Figure): string => {
  const { image, entries, load } = figure.details;
  const cells = [
    image,
    figure.details["unpacked MB"],
    entries,
    figure.n,
    seconds(figure.p50),
    ...PEERS.map((peer) => peerCell(figure, peer)),
    figure.details["peak RSS MiB"],
    figure.met === true ? "met" : "missed",
    load,
  ];
  return `| ${cells.join(" | ")} |`;
};

const describeScaling = ({ details, met, goals = [] }: Figure): string[] => {
  const rows = Object.entries(details).flatMap(([name, value]) => {
    const size = /^(\d+) (MiB|entries), s$/.exec(name);
    if (size === null) return [];
    const memory = details[`${size[1]} entries, RSS MiB`];
    return [`| ${Number(size[1]).toLocaleString("en")} ${size[2]} | ${value} | ${size[2] === "entries" ? memory : "-"} |`];
  });
  const wanted = goals.map(({ field, max }) => `${field} <= ${max}`).join(", ");
  const growth = `A byte of the largest costs ${details["growth by bytes"]} times the CPU time of one of 256 MiB, an entry of the largest ${details["growth by entries"]} times that of one of 50,000.`;
  return [
    `| size | seconds | peak RSS, MiB |`,
    `|---|--:|--:|`,
    ...rows,
    "",
    `${growth} Goals: ${wanted}: ${met === true ? "met" : "missed"}. Load of the machine: ${details["load"]}.`,
  ];
};

/** Writes the part of the page between its markers again, of the figures that were measured in this run. Nothing if they are not all there. */
export const writeRootfsPage = async (figures: readonly Figure[], machine: string): Promise<void> => {
  const compared = COMPARED.flatMap((name) => figures.filter((figure) => figure.name === name));
  const scaling = figures.find(({ name }) => name === SCALING);
  if (compared.length < COMPARED.length || scaling === undefined) return;
  const lines = [
    `Measured on: ${machine}.`,
    "",
    `| image | unpacked, MB | entries | runs | Kiln | ${PEERS.map((peer) => `${peer}, and Kiln's ratio`).join(" | ")} | peak RSS, MiB | goals | load |`,
    `|---|--:|--:|--:|--:|${PEERS.map(() => "--:|").join("")}--:|---|---|`,
    ...compared.map(comparedRow),
    "",
    ...compared.flatMap(({ name, skipped }) => skipped.map((peer) => `Not measured in ${name}: ${peer}.`)),
    "",
    ...describeScaling(scaling),
  ];
  const page = await readFile(PAGE, "utf8");
  const parts = /^([^]*<!-- figures -->\n)[^]*(\n<!-- end of figures -->[^]*)$/.exec(page);
  if (parts === null) throw new Error(`${PAGE} has no markers`);
  await writeFile(PAGE, `${parts[1]}\n${lines.join("\n").replaceAll("\n\n\n", "\n\n")}\n${parts[2]}`);
};
