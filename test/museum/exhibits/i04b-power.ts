import { type Exhibit } from "../exhibit.ts";
import { STAGING, toBytes } from "../kiln/publish.ts";
import { kilnReplace, MANIFEST, powerCut, type Replace } from "../power-cut.ts";

/** Beside, then rename: nobody can see a half. The new name is synced, too. */
const naiveReplace: Replace = async (writer, { disk }, content) => {
  const files = writer.files(disk);
  const staged = `${STAGING}/manifest`;
  await files.create(staged);
  await files.append(staged, toBytes(content));
  await files.rename(staged, MANIFEST);
  await files.syncDirectory("/home/images");
};

export const exhibit: Exhibit = {
  id: "I4b",
  title: "Renamed without fsync: after a power failure the new file is there, and empty",
  story: [
    "Writing beside and renaming is atomic for those who look; it says nothing of the disk. A file system may make the new name safe",
    "before the bytes that it leads to. This is the ext4 of 2009, when desktops came up with empty settings, and it has emptied",
    "manifests of container stores and databases of package managers since.",
    "Order: the writer writes and renames; the name reaches the disk, by itself or by an fsync of the directory, and the bytes of the",
    "file do not; the power fails; the name leads to a file of no bytes, and the old one is gone.",
    "Kiln syncs the file before it has its name, and the directory before it says so.",
    "Code: `packages/std/src/node/publish-file.ts`; what a VM's start needs is compared with its record once more (I7).",
  ],
  complaint: "after the power failure the manifest has 0 bytes",
  kiln: (scheduler) => powerCut(scheduler, kilnReplace),
  naive: (scheduler) => powerCut(scheduler, naiveReplace),
};
