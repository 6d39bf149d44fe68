import { join, resolve } from "node:path";

/** The parts of the process that decide where Kiln lives. */
export interface HomeSources {
  /** `--home`, or what the caller asks for. */
  readonly home?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The user's id; null where the platform has none. */
  readonly uid: number | null;
  readonly userHome: string;
  readonly cwd: string;
}

/** The absolute path of Kiln's home: asked for, then KILN_HOME, then /var/lib/kiln for root or the XDG data directory. */
export const resolveHome = (from: HomeSources): string => {
  const asked = from.home ?? nonEmpty(from.env["KILN_HOME"]);
  if (asked !== undefined) return resolve(from.cwd, asked);
  if (from.uid === 0) return "/var/lib/kiln";
  const data = nonEmpty(from.env["XDG_DATA_HOME"]);
  return data !== undefined && data.startsWith("/") ? join(data, "kiln") : join(from.userHome, ".local", "share", "kiln");
};

/** The daemon's socket in a home. */
export const socketPathOf = (home: string): string => join(home, "kiln.sock");

const nonEmpty = (text: string | undefined): string | undefined => (text === "" ? undefined : text);
