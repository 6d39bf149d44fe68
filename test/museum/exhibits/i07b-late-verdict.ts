import { SingleFlight } from "@kiln/std";
import { damagedRootfs, type Ensure, kilnEnsure } from "../damaged-rootfs.ts";
import type { Exhibit } from "../exhibit.ts";
import { publishBy, toBytes, toText } from "../kiln/publish.ts";
import { GOOD, readSlowly, ROOTFS, type World } from "../kiln/rootfs.ts";

/** Reads the file; where it is damaged, both it and its record go, and it is built again, once for all. */
const naiveEnsure = (world: World, onBuild: () => void): Ensure => {
  const builds = new SingleFlight<string, void>();
  const { signal } = new AbortController();
  let isRecorded = false;
  return async (caller) => {
    const files = caller.files(world.disk);
    if (isRecorded) {
      const bytes = await readSlowly(caller, world, ROOTFS);
      if (bytes !== null && toText(bytes) === GOOD) return;
      caller.says("has read it, and finds it damaged: away with it");
      isRecorded = false;
      if (world.disk.peek(ROOTFS) !== null) world.disk.remove(ROOTFS);
    }
    const build = async (): Promise<void> => {
      onBuild();
      await publishBy(caller, world, { target: ROOTFS, ifExists: "replace", write: (path) => files.append(path, toBytes(GOOD)) });
      isRecorded = true;
    };
    await builds.run("rootfs", build, { signal });
  };
};

export const exhibit: Exhibit = {
  id: "I7b",
  title: "A late verdict throws away what another has just rebuilt",
  story: [
    "Checking before use is right, and it takes time: a rootfs of some gigabytes is read for seconds. The verdict is about the file that",
    "was read, and what is thrown away is the file that is there now. Caches that heal themselves have been seen to build one artifact",
    "again and again, each user throwing away the one before, or to pull it out from under a machine that was just starting.",
    "Order: ann and bob both read the damaged file; bob is done first, removes it, builds a new one and starts; ann's verdict on the",
    "old file comes, and removes the new one.",
    "Kiln compares and forgets in one turn: only if the record is still the one whose file was read. And it removes no file: the new",
    "one takes the old one's name by rename, and whoever has that open keeps it.",
    "Code: `packages/daemon/src/pipeline/pipeline.ts` (ensureRootfs, isSameRootfs); the scrub and `verify` do the same for blobs.",
  ],
  seeds: 400,
  complaint: "was given the rootfs, and it has gone before it was opened",
  kiln: (scheduler) => damagedRootfs(scheduler, kilnEnsure),
  naive: (scheduler) => damagedRootfs(scheduler, naiveEnsure),
};
