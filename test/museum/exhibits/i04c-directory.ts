import { type Exhibit } from "../exhibit.ts";
import { STAGING, toBytes } from "../kiln/publish.ts";
import { kilnReplace, MANIFEST, powerCut, type Replace } from "../power-cut.ts";

/** Beside, synced, then renamed: a name that is there is whole. */
const naiveReplace: Replace = async (writer, { disk }, content) => {
  const files = writer.files(disk);
  const staged = `${STAGING}/manifest`;
  await files.create(staged);
  await files.append(staged, toBytes(content));
  await files.sync(staged);
  await files.rename(staged, MANIFEST);
};

export const exhibit: Exhibit = {
  id: "I4c",
  title: "What was acknowledged is gone: the directory was never synced",
  story: [
    "fsync(2) of a file makes its bytes safe; its name is an entry of the directory, which is another file. Programs that do the first",
    "and leave out the second lose no half files. They lose whole ones that they had told their user of: a pulled image, a key, a",
    "record in a database that names a file which does not exist.",
    "Order: the writer writes, syncs the file, renames it, and says that it is done; the power fails; the directory is as it was before.",
    "Kiln syncs the directory before publishing returns, and its record of the file is written after that: a crash leaves garbage, which",
    "the sweep finds, never a promise that is not kept.",
    "Code: `packages/std/src/node/publish-file.ts`, `fsync.ts`.",
  ],
  complaint: "the writer was done, and after the power failure the old manifest is there",
  kiln: (scheduler) => powerCut(scheduler, kilnReplace),
  naive: (scheduler) => powerCut(scheduler, naiveReplace),
};
