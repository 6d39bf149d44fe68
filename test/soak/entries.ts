import { spawnSync } from "node:child_process";
import { ROOTFS_LIMITS } from "../../packages/daemon/src/content/rootfs/limits.ts";
import { buildApart, FILES_A_DIRECTORY, tarOfFiles } from "../../packages/daemon/src/content/rootfs/many-entries.fixture.ts";
import type { Soak } from "./main.ts";

/** So much a build may take, however many its entries are. */
const MAX_MIB = 1000;

/** A rootfs of so many files, which e2fsck finds clean, and one of more entries than there may be, which is refused: both in bounded memory. */
export const soakEntries: Soak = {
  count: 2_000_000,
  run: async (count, say) => {
    const complaints: string[] = [];
    const built = await buildApart(() => tarOfFiles(count), {
      look: (target) => {
        const { status, stdout } = spawnSync("e2fsck", ["-fn", target], { encoding: "utf8" });
        if (status !== 0) complaints.push(`e2fsck: ${stdout}`);
      },
    });
    const inodes = count + Math.ceil(count / FILES_A_DIRECTORY) + 1;
    if (built.inodes !== inodes) complaints.push(`${inodes} inodes became ${JSON.stringify(built)}`);
    say(`${count} files took ${built.peakMib} MiB`);
    const refused = await buildApart(() => tarOfFiles(ROOTFS_LIMITS.maxEntries + 1));
    const isRefused = refused.code === "ROOTFS_TOO_LARGE" && refused.message?.includes(`more than ${ROOTFS_LIMITS.maxEntries} entries`);
    if (isRefused !== true) complaints.push(`one entry more than the limit: ${JSON.stringify(refused)}`);
    for (const { peakMib } of [built, refused]) if (peakMib >= MAX_MIB) complaints.push(`a build took ${peakMib} MiB`);
    return { complaints, figures: { peakMib: built.peakMib, peakOfRefusedMib: refused.peakMib } };
  },
};
