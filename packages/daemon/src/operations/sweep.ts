import { collectContent } from "./collect-content.ts";
import type { Core } from "./core.ts";
import { tell } from "./tell.ts";

export interface Swept {
  readonly kind: "rootfs" | "blob";
  readonly id: string;
  readonly diskBytes: number;
}

/**
 * Removes what no record and no lease needs: rootfs that no image and no VM uses, then blobs that no image names.
 * It may run beside pulls, builds and itself: each decision and its deletion are one turn (I23, I24).
 */
export const sweepUnused = async (core: Core): Promise<readonly Swept[]> => {
  const swept: Swept[] = [];
  for (const { key } of core.images.listRootfs()) {
    if (core.leases.isHeld(key) || !core.images.removeUnusedRootfs(key)) continue;
    swept.push({ kind: "rootfs", id: key, diskBytes: core.rootfsFiles.removeNow(key) });
  }
  for (const { digest, diskBytes } of await collectContent(core)) swept.push({ kind: "blob", id: digest, diskBytes });
  if (swept.length > 0) tellSwept(core, swept);
  return swept;
};

const tellSwept = (core: Core, swept: readonly Swept[]): void => {
  const diskBytes = swept.reduce((sum, one) => sum + one.diskBytes, 0);
  const count = (kind: Swept["kind"]): number => swept.filter((one) => one.kind === kind).length;
  tell(core, {
    type: "content.swept",
    subject: "content",
    data: { id: null, rootfs: count("rootfs"), blobs: count("blob"), diskBytes },
  });
  core.journal.info({ removed: swept.length, bytes: diskBytes }, "swept");
};

const SWEEP_EVERY_MS = 60_000;

/** Sweeps now and then, until the daemon begins to end: what has lingered goes even if nobody asks for anything. */
export const sweepRegularly = async (core: Core): Promise<void> => {
  while (!core.stopping.aborted) {
    try {
      await core.clock.sleep(SWEEP_EVERY_MS, { signal: core.stopping });
      await sweepUnused(core);
    } catch (error) {
      if (!core.stopping.aborted) core.journal.error({ error: String(error) }, "sweeping failed; it is tried again later");
    }
  }
};
