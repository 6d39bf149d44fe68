/** How often each nonce has been written down, wherever guests wrote it. */
import { execFile } from "node:child_process";
import { copyFile, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { VmView } from "@kiln/protocol";
import { ifThere } from "../crash/if-there.ts";
import type { Ground } from "./ground.ts";
import { GUEST_NOTES } from "./words.ts";

const run = promisify(execFile);
const DISK = "writable.ext4";

/** null for a nonce of a VM whose disk is gone. */
export type NonceCount = (nonce: string) => number | null;

const countLines = (text: string): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const line of text.split("\n")) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
};

/** Fake guests all write into one file of the host, which outlives them. */
export const readHostNotes = async ({ notes }: Ground): Promise<NonceCount> => {
  const counts = countLines(await ifThere(readFile(notes, "utf8"), ""));
  return (nonce) => counts.get(nonce) ?? 0;
};

/** What guests have written into disks that are there; each is of a VM that does not run. One that is in none may have gone with its disk. */
export const readGuestNotes = async (ground: Ground, vms: readonly VmView[]): Promise<NonceCount> => {
  const texts: string[] = [];
  for (const { id } of vms) texts.push(await readDisk(join(ground.home.path, "vms", id, DISK), `${ground.notes}.ext4`));
  const counts = countLines(texts.join("\n"));
  return (nonce) => counts.get(nonce) ?? null;
};

/** A copy is looked into, whose journal is played first. */
const readDisk = async (disk: string, copy: string): Promise<string> => {
  try {
    if (
      !(await ifThere(
        copyFile(disk, copy).then(() => true),
        false,
      ))
    )
      return ""; // it has gone with its VM meanwhile
    await run("e2fsck", ["-fy", copy]).catch((error: { readonly code?: number }) => {
      if (error.code !== 1) throw error; // what was amiss is put right
    });
    const { stdout } = await run("debugfs", ["-R", `cat /upper/${GUEST_NOTES}`, copy]);
    return stdout;
  } finally {
    await rm(copy, { force: true });
  }
};
