import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { hasCode } from "./errno.ts";

/**
 * mkdir -p; new directories get `mode`, one that is there keeps its own. Unlike Node's recursive mkdir it ends where a
 * parent exists and still refuses (as /proc does), with that system error.
 */
export async function makeDirectories(path: string, mode: number): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (!hasCode(error, "ENOENT") || dirname(path) === path) throw error;
    await makeDirectories(dirname(path), mode);
    await makeOne(path, mode);
  }
}

async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
}
