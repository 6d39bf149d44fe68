/** The page of the comparison: images by checks. */
import { CHECKS } from "./differences.ts";
import { REASONS } from "./reasons.ts";
import { renderRuns, type Run } from "./runs.ts";
import type { Row } from "./subjects.ts";
import type { Entry } from "./tree.ts";

const COLUMNS = ["name", ...CHECKS] as const;

/** What there is in the images, so that a check which found nothing to look at can be told from one that found no difference. */
const CONTENTS: Readonly<Record<string, (path: string, entry: Entry) => boolean>> = {
  files: (_, { type }) => type === "file",
  directories: (_, { type }) => type === "directory",
  symlinks: (_, { type }) => type === "symlink",
  "devices, pipes": (_, { type }) => type.endsWith("device") || type === "fifo",
  "names of linked files": (_, { links }) => links !== null && !links.endsWith(" and 0 more"),
  "set-id, sticky": (_, { mode }) => mode !== null && mode.length > 3,
  "not root's": (_, { uid, gid }) => uid !== "0" || gid !== "0",
  "fractions of seconds": (_, { mtime }) => !mtime.endsWith("000000000"),
  capabilities: (_, { xattrs }) => xattrs.includes("security.capability="),
  ACLs: (_, { xattrs }) => xattrs.includes("system.posix_acl_"),
  "other attributes": (_, { xattrs }) => /^(user|trusted)\./m.test(xattrs),
  "names that are no UTF-8": (path) => Buffer.from(path, "latin1").toString("utf8").includes("\ufffd"),
};

const number = (value: number): string => value.toLocaleString("en-US");
const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [line(head), line(head.map((_, index) => (index === 0 ? "---" : "--:"))), ...rows.map(line)].join("\n");

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** How many entries were compared; and how many of them differ for which reason. */
const cell = (row: Row, check: (typeof COLUMNS)[number]): string => {
  const reasons = REASONS.flatMap(({ id }) => {
    const found = row.comparisons.flatMap(({ explained }) => explained.get(id) ?? []).filter((difference) => difference.check === check);
    return found.length === 0 ? [] : [`${number(found.length)}${id}`];
  });
  const count = number(sum(row.comparisons.map(({ counts }) => counts[check])));
  return reasons.length === 0 ? count : `${count} (${reasons.join(", ")})`;
};

const checksRow = (row: Row): string[] => [
  row.image,
  number(sum(row.comparisons.map(({ layers }) => layers))),
  ...COLUMNS.map((check) => cell(row, check)),
  number(sum(row.comparisons.map(({ unexplained }) => unexplained.length))),
];

const contentsRow = (row: Row): string[] => [
  row.image,
  ...Object.values(CONTENTS).map((has) =>
    number(sum(row.comparisons.map(({ ours }) => [...ours].filter(([path, entry]) => has(path, entry)).length))),
  ),
];

const reasonRow = (rows: readonly Row[]): string[][] =>
  REASONS.map(({ id, text }) => [
    text,
    id,
    ...rows.map(({ comparisons }) => number(sum(comparisons.map(({ explained }) => explained.get(id)?.length ?? 0)))),
  ]);

export const CHECKS_HEAD = ["image", "layers", ...COLUMNS, "unexplained"];

const refusals = (rows: readonly Row[]): string =>
  rows
    .filter(({ refused }) => refused > 0)
    .map(
      ({ image, refused }) =>
        `Of the ${image}, ${refused} are not in the table: umoci refuses them (a hard link without a target, a symlink in circles).`,
    )
    .join("\n");

/** The whole page. */
export const renderPage = (
  rows: readonly Row[],
  found: { readonly umoci: string; readonly runs: readonly Run[] },
): string => `# Images, compared entry by entry

What Kiln makes of an image is compared with what ${found.umoci} unpacks of the same OCI layout, as root: Kiln's ext4 file is checked by e2fsck, mounted
read-only by the kernel, and every entry of both trees is looked at. The images and layers are made without Kiln: by dpkg-deb, GNU tar, Python's
tarfile and umoci. \`npm run compare\` writes this page again; the tests compare the same images, and other generated ones at each run.

Each cell is the number of entries that the check applied to on either side; differences that have a reason are in brackets, with its letter; the
last column counts those that have none. "links" is the group of names that lead to one inode; "content" is the sha256 of a file's bytes.

${table(CHECKS_HEAD, rows.map(checksRow))}

${refusals(rows)}

## Reasons

${table(["where umoci itself is otherwise", "", ...rows.map(({ image }) => image)], reasonRow(rows))}

## What is in the images

${table(["image", ...Object.keys(CONTENTS)], rows.map(contentsRow))}

${renderRuns(found.runs)}`;
