import { KilnError } from "@kiln/protocol/errors";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * `NAME=VALUE` as it is; `NAME` takes the caller's value, or nothing if the caller has none: docker's -e.
 * Throws USAGE for an entry without a name.
 */
export const parseEnvironment = (entries: readonly string[], caller: Environment): string[] =>
  entries.flatMap((entry) => parseEntry(entry, caller));

const parseEntry = (entry: string, caller: Environment): string[] => {
  if (entry === "" || entry.startsWith("=")) throw new KilnError("USAGE", `-e ${entry}: a variable has a name`);
  if (entry.includes("=")) return [entry];
  const value = caller[entry];
  return value === undefined ? [] : [`${entry}=${value}`];
};

/** The lines of an --env-file: entries as of -e; empty lines and those that begin with # are left out. */
export const parseEnvironmentFile = (text: string, caller: Environment): string[] =>
  parseEnvironment(
    text
      .replace(/^\uFEFF/, "")
      .split(/\r?\n/)
      .map((line) => line.trimStart())
      .filter((line) => line !== "" && !line.startsWith("#")),
    caller,
  );

/** `KEY=VALUE`, or `KEY` with an empty value. The last of a key counts. Throws USAGE. */
export const parseLabels = (entries: readonly string[]): Record<string, string> => {
  const labels: Record<string, string> = {};
  for (const entry of entries) {
    const at = entry.indexOf("=");
    const key = at === -1 ? entry : entry.slice(0, at);
    if (key === "") throw new KilnError("USAGE", `--label ${entry}: a label has a name`);
    labels[key] = at === -1 ? "" : entry.slice(at + 1);
  }
  return labels;
};
