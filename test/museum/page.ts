/** The page of the museum. It names no seed: the command finds the shortest order by itself. */
import type { Exhibit } from "./exhibit.ts";

const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;

/** As the headings of a page are addressed. */
const anchorOf = ({ id, title }: Exhibit): string =>
  `${id} ${title}`
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, "")
    .replaceAll(" ", "-");

/** The story's four parts: who broke on it, the order, what Kiln does, where. */
const partsOf = ({ story }: Exhibit): readonly string[] => {
  const parts: string[] = [];
  for (const [at, text] of story.entries()) {
    const isNew = at === 0 || (/^(Order:|Code:|Kiln|In Kiln|A VM of Kiln)/.test(text) && /[.:]$/.test(story[at - 1] ?? ""));
    if (isNew) parts.push(text.replace(/^(Order|Code):/, "**$1:**"));
    else parts.push(`${parts.pop() ?? ""}\n${text}`);
  }
  return parts;
};

const room = (exhibit: Exhibit): string => `## ${exhibit.id} ${exhibit.title}

${partsOf(exhibit).join("\n\n")}

The naive way ends with "… ${exhibit.complaint} …". Both sides, step by step: \`npm run -s museum -- ${exhibit.id}\`
`;

export const renderPage = (exhibits: Iterable<Exhibit>): string => {
  const all = [...exhibits];
  return `# The museum of races

Written by \`npm run -s museum -- --write\`; do not edit it.

Each exhibit is a race, or a fault beside one, that has broken systems which keep images and run containers or VMs. It is one scenario that is
played twice by the same rules: with Kiln's own code, and with the way that looks right, which lives in \`test/museum\` only. A scheduler runs
both in an order that a seed decides; the files are on a simulated disk, which may lose what was not synced, and time is virtual, so that a
seed gives the same order each time, on each machine. The naive way fails under some of the seeds, by the check that the invariant is about; Kiln
passes all of them. \`npm test\` holds that.

| command | what it shows |
|---|---|
| \`npm run -s museum\` | all exhibits: under how many seeds the naive way fails, and with what |
| \`npm run -s museum -- I10\` | one exhibit: its story, the shortest order that breaks the naive way, step by step, and that Kiln passes |
| \`npm run -s museum -- I10 --seed 7 --naive\` | that seed's order in the naive way; without \`--naive\` in Kiln |
| \`npm run -s museum -- --seeds 10000\` | more orders |

What the naive way is not: a straw man. Each is what a careful person writes who has the case of one caller in mind. What is Kiln's in a scenario is
named at the end of its story; what is around it (a registry, a builder, a guest) is played.

| id | exhibit |
|---|---|
${all.map((exhibit) => line([exhibit.id, `[${exhibit.title}](#${anchorOf(exhibit)})`])).join("\n")}

${all.map(room).join("\n")}`;
};
