import type { DoctorCheck } from "@kiln/protocol";
import { ToolError } from "@kiln/std/node";

/** What the checks are told of the host. */
export interface Surroundings {
  readonly home: string;
  readonly uid: number;
  /** Whether the host's packages come through apt, and whether apt knows any. */
  readonly apt: "none" | "without lists" | "ready";
}

/** A failure's own words in a table's cell. */
const WORDS_LENGTH = 200;

export const passed = (name: string, found: string, needed: string | null): DoctorCheck => ({
  name,
  status: "pass",
  found,
  needed,
  fix: null,
});

/** The first line, if it is not too long. */
export const firstLine = (text: string): string => {
  const [line = ""] = text.split("\n");
  return line.length > WORDS_LENGTH ? `${line.slice(0, WORDS_LENGTH - 1)}…` : line;
};

/** What went wrong, in a line. */
export const wordsOf = (error: unknown): string => {
  if (error instanceof ToolError && error.code === "ENOENT") return `${error.command} is not installed`;
  return firstLine(error instanceof Error ? error.message : String(error));
};

/** A command as the user has to write it who is not root. */
export const asRoot = (command: string, uid: number): string => (uid === 0 ? command : `sudo ${command}`);

/** How Debian packages are installed here, or their like where there is no apt. */
export const install = (packages: string, { uid, apt }: Surroundings): string => {
  if (apt === "none") return `with this host's package manager install what Debian has in ${packages.replaceAll(" ", ", ")}`;
  const update = apt === "ready" ? "" : `${asRoot("apt-get update", uid)} && `;
  return `${update}${asRoot(`apt-get install -y --no-install-recommends ${packages}`, uid)}`;
};
