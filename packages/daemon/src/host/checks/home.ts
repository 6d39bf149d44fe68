import { constants, type Stats } from "node:fs";
import { access, lstat, readdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode } from "@kiln/std/node";
import { asRoot, passed, type Surroundings, wordsOf } from "./check.ts";

const NAME = "home";
const NEEDED = "a directory of your own, mode 0700, in a place that can be written";
const OTHERS = 0o077;

/** `path`, or the nearest directory above it that is there. */
export const findExisting = async (path: string): Promise<string> => {
  let place = resolve(path);
  while ((await find(place)) === null && dirname(place) !== place) place = dirname(place);
  return place;
};

/** Whether a daemon can keep its things there. Nothing is made or changed. */
export const checkHome = async ({ home, uid }: Surroundings): Promise<DoctorCheck> => {
  const stats = await find(home);
  const problem = stats === null ? await findObstacle(home) : await findProblem(home, stats, uid);
  if (problem !== null) return { name: NAME, needed: NEEDED, ...problem };
  return passed(NAME, stats === null ? `${home}, which the first use makes` : home, NEEDED);
};

type Problem = Pick<DoctorCheck, "status" | "found" | "fix">;

const fail = (found: string, fix: string): Problem => ({ status: "fail", found, fix });
const ELSEWHERE = "choose another place with --home or KILN_HOME";

/** Why a home that is missing cannot be made. */
const findObstacle = async (home: string): Promise<Problem | null> => {
  const place = await findExisting(home);
  if (!(await stat(place)).isDirectory()) return fail(`${home} cannot be made: ${place} is not a directory`, ELSEWHERE);
  const why = await refusalOf(place);
  return why === null ? null : fail(`${home} cannot be made: ${place} cannot be written (${why})`, ELSEWHERE);
};

const findProblem = async (home: string, stats: Stats, uid: number): Promise<Problem | null> => {
  if (!stats.isDirectory()) return fail(`${home} is ${stats.isSymbolicLink() ? "a link" : "a file"}, not a directory`, ELSEWHERE);
  if (stats.uid !== uid) {
    return fail(
      `${home} belongs to the user ${stats.uid}, and you are ${uid}`,
      `${ELSEWHERE}, or: ${asRoot(`chown -R ${uid} ${home}`, uid)}`,
    );
  }
  const why = await refusalOf(home);
  if (why !== null) return fail(`${home} cannot be written (${why})`, why === "EACCES" ? `chmod 0700 ${home}` : ELSEWHERE);
  const foreign = await findForeign(home, uid);
  if (foreign !== null) return fail(`${foreign} belongs to somebody else`, asRoot(`chown -R ${uid} ${home}`, uid));
  if ((stats.mode & OTHERS) === 0) return null;
  const mode = (stats.mode & 0o777).toString(8).padStart(4, "0");
  return { status: "warn", found: `${home} has mode ${mode}: others can look into it`, fix: `chmod 0700 ${home}` };
};

/** What of the home another user made, with sudo for example; root can use it all the same. */
const findForeign = async (home: string, uid: number): Promise<string | null> => {
  if (uid === 0) return null;
  for (const name of await readdir(home)) {
    const stats = await find(join(home, name));
    if (stats !== null && stats.uid !== uid) return join(home, name);
  }
  return null;
};

/** The errno, where the directory cannot be written. */
const refusalOf = async (directory: string): Promise<string | null> => {
  try {
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    for (const code of ["EACCES", "EPERM", "EROFS"]) if (hasCode(error, code)) return code;
    return wordsOf(error);
  }
};

/** null where nothing is there, or where nobody can look. */
const find = async (path: string): Promise<Stats | null> => {
  try {
    return await lstat(path);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG")) return null;
    throw error;
  }
};
