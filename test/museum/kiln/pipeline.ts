import type { Digest } from "@kiln/protocol";
import type { FileFingerprint } from "@kiln/std";
import { ContentLeases } from "../../../packages/daemon/src/images/leases.ts";
import type { ImageSource, ResolvedImage } from "../../../packages/daemon/src/images/ports.ts";
import type { ImageRecord } from "../../../packages/daemon/src/images/records.port.ts";
import { RecordedWork } from "../../../packages/daemon/src/operations/joined-work.ts";
import { Operations } from "../../../packages/daemon/src/operations/operations.ts";
import type { KernelSets, RootfsFiles } from "../../../packages/daemon/src/pipeline/artifacts.port.ts";
import { ImageChecks } from "../../../packages/daemon/src/pipeline/checks.ts";
import type { ArtifactReader, RootfsChecks } from "../../../packages/daemon/src/pipeline/checks.port.ts";
import { Pipeline } from "../../../packages/daemon/src/pipeline/pipeline.ts";
import { SqliteArtifactStore } from "../../../packages/daemon/src/store/artifact-store.ts";
import { Database } from "../../../packages/daemon/src/store/database.ts";
import { SqliteOperationStore } from "../../../packages/daemon/src/store/operation-store.ts";
import type { Scheduler } from "../../sim/scheduler.ts";

export const PLATFORM = { os: "linux", architecture: "amd64", variant: "" };
const CONFIG = {
  ...{ entrypoint: [], cmd: [], env: [], workingDir: "/", user: "", stopSignal: "", diffIds: [], platform: PLATFORM },
  ...{ exposedPorts: [], volumes: [], labels: {} },
};
const SILENT = { error: () => undefined };

/** sha256 of nothing in particular: one hexadecimal digit, many times. */
export const digestOf = (digit: string): Digest => `sha256:${digit.repeat(64).slice(0, 64)}` as Digest;

export const fingerprintOf = (ino: number, size = 1): FileFingerprint => ({ size, ino: String(ino), mtimeNs: "1", ctimeNs: "1" });

export const resolvedImage = (reference: string, manifestDigest: Digest): ResolvedImage => ({
  ...{ reference, manifestDigest, configDigest: manifestDigest, platform: PLATFORM, layers: [] },
  config: CONFIG,
});

export const imageRecord = (reference: string, digest: Digest): ImageRecord => ({
  ...{ reference, image: resolvedImage(reference, digest), root: digest, rootfsKey: digest.slice("sha256:".length) },
  createdAt: "2030-01-01T00:00:00.000Z",
});

const notHere = async (): Promise<never> => Promise.reject(new Error("this scenario has no such thing"));

const NO_KERNELS: KernelSets = {
  ...{ builderDigest: notHere, build: notHere, isWhole: notHere, remove: notHere, open: notHere },
};

const NO_ROOTFS: RootfsFiles = { path: (key) => `/rootfs/${key}`, build: notHere, isWhole: async () => true, removeNow: () => 0 };

const NO_READER: ArtifactReader = {
  ...{ blob: notHere, rootfs: notHere, kernel: notHere, preboot: notHere, blobs: async function* () {} },
  ...{ storedAtMs: () => null, removeBlobNow: () => false },
};

/** What a scenario brings: where images come from, how a rootfs is built. */
export interface KilnPorts {
  readonly source?: Pick<ImageSource, "fetch">;
  readonly rootfsFiles?: Partial<RootfsFiles>;
  readonly rebuild?: RootfsChecks["rebuild"];
}

/** Kiln's pipeline, with its records in a database in memory, as main puts it together. */
export const createKiln = (scheduler: Scheduler, { source, rootfsFiles, rebuild = notHere }: KilnPorts) => {
  const clock = scheduler.clockOf();
  const database = new Database(":memory:", { clock });
  const images = new SqliteArtifactStore(database);
  const stopping = new AbortController().signal;
  const store = new SqliteOperationStore(database);
  const operations = new Operations({ store, clock, random: scheduler.dice.source, journal: SILENT, stopping });
  const work = new RecordedWork(operations);
  const leases = new ContentLeases(clock);
  const checkpoint = (name: string): Promise<void> => scheduler.step(`kiln: ${name}`);
  const pipeline = new Pipeline({
    ...{ work, clock, images, kernels: images, leases, checkpoint, kernelSets: NO_KERNELS },
    rootfsFiles: { ...NO_ROOTFS, ...rootfsFiles },
    sources: source === undefined ? [] : [{ accepts: () => true, resolve: async () => null, ...source }],
    content: { isComplete: async () => true },
    rootfsKey: ({ manifestDigest }) => manifestDigest.slice("sha256:".length),
    platform: PLATFORM,
    distinguish: (secret) => secret,
  });
  const rootfsChecks = { compare: notHere, rebuild };
  const checks = new ImageChecks({ work, clock, images, leases, checkpoint, reader: NO_READER, rootfsChecks });
  return { pipeline, checks, images, leases, work, operations, clock, checkpoint, database };
};
