import { rm } from "node:fs/promises";
import { join } from "node:path";
import { randomHex, systemRandom } from "../random.ts";
import { declareFailpoint } from "./failpoints.ts";

/** Places in publishing where a test can end the process; see failpoint(). */
export const PUBLISH_POINTS = {
  /** The staged bytes are written, not yet synced. */
  written: declareFailpoint("publish.written"),
  /** They are synced and verified; the final name is not there yet. */
  staged: declareFailpoint("publish.staged"),
  /** The final name is there; its directory is not synced yet. */
  named: declareFailpoint("publish.named"),
} as const;

/** The target's name is taken and may not be replaced. `code` is "EEXIST". */
export class TargetExistsError extends Error {
  override readonly name = "TargetExistsError";
  readonly code = "EEXIST";
  readonly target: string;

  constructor(target: string, options?: ErrorOptions) {
    super(`${target} exists already`, options);
    this.target = target;
  }
}

/** A name in `stagingDir` that nobody has had or will have: two publications of one target never meet before its name. */
export function stagingPath(stagingDir: string): string {
  return join(stagingDir, `${process.pid}.${randomHex(systemRandom, 12)}`);
}

/** Removes what is staged at `path`, whatever it is; nothing there is fine. */
export async function discardStaged(path: string): Promise<void> {
  await rm(path, { force: true, recursive: true });
}
