import type { Digest, VmId } from "@kiln/protocol";
import { SqliteArtifactStore } from "../../packages/daemon/src/store/artifact-store.ts";
import { Database } from "../../packages/daemon/src/store/database.ts";
import { SqliteVmStore } from "../../packages/daemon/src/store/vm-store.ts";
import type { VmRecord } from "../../packages/daemon/src/vms/record.ts";

export const MIB = 2 ** 20;
export const ROOTFS = "r".repeat(64);
export const KERNEL = "kernel";
const SHA = `sha256:${"a".repeat(64)}` as Digest;

/** The daemon's own records, in memory, with one rootfs and one kernel set. */
export interface Records extends Disposable {
  readonly vms: SqliteVmStore;
  readonly artifacts: SqliteArtifactStore;
}

export const createRecords = (options: { readonly onFreed?: () => void } = {}): Records => {
  const database = new Database(":memory:");
  const artifacts = new SqliteArtifactStore(database);
  const fingerprint = { size: 1, ino: "1", mtimeNs: "1", ctimeNs: "1" };
  artifacts.putRootfs({ key: ROOTFS, digest: SHA, fingerprint, createdAt: "now" });
  const kernel = { name: "debian-cloud", version: "1", source: "x", builderDigest: "b", digest: SHA, sizeBytes: 1 };
  artifacts.putKernel({ key: KERNEL, ...kernel, createdAt: "now" });
  return {
    ...{ vms: new SqliteVmStore(database, options), artifacts },
    [Symbol.dispose]: () => database[Symbol.dispose](),
  };
};

const IDENTITY = { image: "deb:x", imageDigest: SHA, rootfsKey: ROOTFS, rootfsDigest: SHA, kernelKey: KERNEL, kernelName: "debian-cloud" };
const NETWORK: VmRecord["network"] = { mode: "none", mac: null };
const COMMAND = { command: ["sleep", "1000"], env: [], workingDir: "/", user: "", stopSignal: "SIGTERM", tty: null, stdin: false };
const NEVER_RAN = { epoch: 0, bootId: null, startedAt: null, finishedAt: null, exitCode: null, signal: null, error: null, timings: {} };
const NO_START = { startMode: "auto", startPath: null, startReason: null, vmm: null, operation: null } as const;

/** What a create reserves. The id is the number, so that a trace can be read. */
export const draftOf = (
  number: number,
  change: Partial<Omit<VmRecord, "slot" | "id">> & { readonly name: string },
): Omit<VmRecord, "slot"> => ({
  ...{ ...IDENTITY, ...COMMAND, ...NEVER_RAN, ...NO_START, network: NETWORK },
  ...{ id: vmId(number), hostname: change.name, state: "created", machineId: "0".repeat(32) },
  ...{ cpus: 1, memoryBytes: 512 * MIB, diskBytes: 1024 * MIB, labels: {}, ports: [], autoRemove: false, isBuilder: false },
  ...{ createdAt: "2030-01-01T00:00:00.000Z", driver: "fake" },
  ...change,
});

export const vmId = (number: number): VmId => number.toString(16).padStart(12, "0") as VmId;
