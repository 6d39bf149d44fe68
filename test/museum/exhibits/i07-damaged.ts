import { damagedRootfs, type Ensure, kilnEnsure } from "../damaged-rootfs.ts";
import type { Exhibit } from "../exhibit.ts";
import { publishBy, toBytes } from "../kiln/publish.ts";
import { GOOD, ROOTFS, type World } from "../kiln/rootfs.ts";

/** There is a record, and there is a file. */
const naiveEnsure = (world: World, onBuild: () => void): Ensure => {
  let isRecorded = false;
  return async (caller) => {
    const files = caller.files(world.disk);
    if (isRecorded && (await files.exists(ROOTFS))) return;
    onBuild();
    await publishBy(caller, world, { target: ROOTFS, ifExists: "replace", write: (path) => files.append(path, toBytes(GOOD)) });
    isRecorded = true;
  };
};

export const exhibit: Exhibit = {
  id: "I7",
  title: "The record says READY, the file is there, and it is not what was recorded",
  story: [
    "A record that says ready is about the day on which it was written. Since then a disk was full, a power failure cut the file, a",
    "person copied the home, a sector went bad. Stores that ask for the record, or for the record and the file, start VMs on what is",
    "left, and the error comes from inside of a guest, as a file system that cannot be mounted or a library with wrong bytes.",
    "Order: the rootfs is built and recorded; the disk damages it; a VM is started from it.",
    "Kiln compares size, inode, mtime and ctime with what was recorded at publication, at each use: a stat. Where they differ it hashes",
    "the file; where the hash differs the record goes, and the file is built again, once for all who want it. What no stat shows, the",
    "scrub finds, which reads everything once a day.",
    "Code: `packages/daemon/src/pipeline/pipeline.ts` (ensureRootfs), `content/known-files.ts`, `operations/scrub-slowly.ts`.",
  ],
  complaint: "starts a VM on a damaged rootfs",
  kiln: (scheduler) => damagedRootfs(scheduler, kilnEnsure),
  naive: (scheduler) => damagedRootfs(scheduler, naiveEnsure),
};
