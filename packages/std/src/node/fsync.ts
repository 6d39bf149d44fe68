import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Makes the names in a directory durable: what was linked, renamed or removed in it survives a power cut. */
export async function fsyncDirectory(path: string): Promise<void> {
  await fsyncPath(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

/** Makes every regular file and directory below `path` durable, `path` itself last. Links are not followed, devices and pipes not opened. */
export async function fsyncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name);
    if (entry.isDirectory()) await fsyncTree(child);
    else if (entry.isFile()) await fsyncPath(child, constants.O_RDONLY | constants.O_NOFOLLOW);
  }
  await fsyncDirectory(path);
}

async function fsyncPath(path: string, flags: number): Promise<void> {
  await using file = await open(path, flags);
  await file.sync();
}
