import type { Digest } from "@kiln/protocol";
import type { ContentLeases } from "../../images/leases.ts";
import type { ImageStore } from "../../images/records.port.ts";
import { ImageChecks } from "../../pipeline/checks.ts";
import type { ArtifactReader } from "../../pipeline/checks.port.ts";
import { ImageRefetch } from "../../pipeline/refetch.ts";
import type { JoinedWork } from "../../pipeline/work.port.ts";
import { SqliteCheckStore } from "../../store/check-store.ts";
import type { Database } from "../../store/database.ts";
import type { Core } from "../core.ts";

interface Parts {
  readonly work: JoinedWork;
  readonly images: ImageStore;
  readonly leases: ContentLeases;
  readonly clock: Core["clock"];
  readonly checkpoint: Core["checkpoint"];
}

const FINGERPRINT = { size: 1, ino: "1", mtimeNs: "1", ctimeNs: "1" };

/** Everything of the fake core is whole. */
const fakeReader = (rootfs: Digest): ArtifactReader => ({
  blob: async (digest) => ({ digest, fingerprint: FINGERPRINT }),
  rootfs: async () => ({ digest: rootfs, fingerprint: FINGERPRINT }),
  kernel: async () => ({ bytes: 1, state: "whole" }),
  preboot: async () => ({ bytes: 1, state: "whole" }),
  blobs: async function* () {},
  storedAtMs: () => null,
  removeBlobNow: () => false,
});

export const fakeChecks = (parts: Parts, rootfs: Digest): Pick<Core, "checks" | "refetch"> => ({
  checks: new ImageChecks({
    ...parts,
    reader: fakeReader(rootfs),
    rootfsChecks: {
      compare: async () => ({ digest: rootfs, difference: null }),
      rebuild: async () => ({ digest: rootfs, fingerprint: FINGERPRINT }),
    },
  }),
  refetch: new ImageRefetch({ images: parts.images, sources: [], work: parts.work }),
});

export const fakeArtifacts = (database: Database, rootfs: Digest): Pick<Core, "artifacts" | "checked"> => ({
  artifacts: fakeReader(rootfs),
  checked: new SqliteCheckStore(database),
});
