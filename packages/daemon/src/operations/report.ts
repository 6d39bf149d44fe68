import { platformText } from "@kiln/formats/oci";
import type { DaemonStatus, DfReport, ImageView, KernelView } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import { LIVE_STATES } from "../vms/record.ts";
import type { Core } from "./core.ts";

/** Facts about the running daemon that only main knows. */
export interface DaemonFacts {
  readonly pid: number;
  readonly startedAt: string;
  readonly version: string;
  readonly socket: string;
}

const PROBE_MS = 5_000;

/** A file or directory of the home, measured. */
export interface Measured {
  readonly path: string;
  readonly bytes: number;
  readonly diskBytes: number;
}

/** What lies in the home, as the file system says. */
export interface HomeUsage {
  content(): Promise<readonly (Measured & { digest: string })[]>;
  rootfs(): Promise<readonly (Measured & { key: string })[]>;
  kernels(): Promise<readonly (Measured & { key: string })[]>;
  vms(): Promise<readonly (Measured & { id: string })[]>;
  staging(): Promise<readonly string[]>;
}

export const reportStatus = async (core: Core, facts: DaemonFacts): Promise<DaemonStatus> => {
  const vms = core.vms.list();
  const { name } = core.driver;
  const driver = await core.driver
    .probe(null, { signal: AbortSignal.timeout(PROBE_MS) })
    .catch((error: unknown) => ({ name, version: null, accel: null, reason: String(error) }));
  return {
    running: true,
    pid: facts.pid,
    startedAt: facts.startedAt,
    version: facts.version,
    apiVersion: "v1",
    home: core.config.home,
    socket: facts.socket,
    drivers: [driver],
    vms: { running: vms.filter((vm) => LIVE_STATES.has(vm.state)).length, total: vms.length },
    operations: { running: core.operations.count("running"), queued: core.operations.count("queued") },
    capacity: {
      memoryBytes: { total: core.config.memoryBytes, reserved: core.vms.reservedMemoryBytes() },
      boots: { limit: core.config.bootsLimit, running: core.boots.active, queued: core.boots.waiting },
    },
  };
};

/** What the home holds, and what in it no record owns. Work in progress is in staging and is not an orphan. */
export const reportDf = async (core: Core, usage: HomeUsage): Promise<DfReport> => {
  const images = core.images.listImages();
  const users = new Map<string, number>();
  for (const digest of images.flatMap(blobsOf)) users.set(digest, (users.get(digest) ?? 0) + 1);
  const blobs = await usage.content();
  const [rootfs, kernels, vms] = [await usage.rootfs(), await usage.kernels(), await usage.vms()];
  const known = new Set<string>(core.vms.list().map((vm) => vm.id));
  const busy = core.operations.count("running") > 0;
  const items: DfReport["items"] = [
    ...blobs.map((blob) => ({
      kind: "blob",
      id: blob.digest,
      ...sizes(blob),
      uniqueBytes: users.get(blob.digest) === 1 ? blob.diskBytes : 0,
      inUse: users.has(blob.digest),
    })),
    ...rootfs.map((file) => ({
      kind: "rootfs",
      id: file.key,
      ...sizes(file),
      uniqueBytes: file.diskBytes,
      inUse: core.images.isRootfsInUse(file.key),
    })),
    ...kernels.map((set) => ({
      kind: "kernel",
      id: set.key,
      ...sizes(set),
      uniqueBytes: set.diskBytes,
      inUse: core.kernels.isKernelInUse(set.key),
    })),
    ...vms.map((vm) => ({
      kind: "vm",
      id: vm.id,
      ...sizes(vm),
      uniqueBytes: vm.diskBytes,
      inUse: core.running.get(vm.id as never) !== null,
    })),
  ];
  const orphans = [
    ...blobs.filter((blob) => !users.has(blob.digest) && core.leases.isIdle),
    ...rootfs.filter((file) => core.images.getRootfs(file.key) === null),
    ...kernels.filter((set) => core.kernels.getKernel(set.key) === null),
    ...vms.filter((vm) => !known.has(vm.id)),
  ].map((measured) => measured.path);
  const total = { bytes: sum(items, "bytes"), diskBytes: sum(items, "diskBytes") };
  return { items, total, orphans: busy ? [] : [...orphans, ...(await usage.staging())] };
};

const sizes = (measured: Measured) => ({ bytes: measured.bytes, diskBytes: measured.diskBytes });

const sum = (items: DfReport["items"], field: "bytes" | "diskBytes"): number => items.reduce((total, item) => total + item[field], 0);

/** Every blob an image needs: manifest, config and layers. */
export const blobsOf = (record: ImageRecord): string[] => [
  record.image.manifestDigest,
  record.image.configDigest,
  ...record.image.layers.map((layer) => layer.digest),
];

export const toImageView = (core: Core, record: ImageRecord): ImageView => {
  const rootfs = core.images.getRootfs(record.rootfsKey);
  return {
    reference: record.reference,
    digest: record.image.manifestDigest,
    platform: platformText(record.image.platform),
    layers: record.image.layers.length,
    sizeBytes: record.image.layers.reduce((total, layer) => total + layer.size, 0),
    rootfsDigest: rootfs?.digest ?? null,
    rootfsBytes: rootfs?.fingerprint.size ?? null,
    createdAt: record.createdAt,
    inUse: core.images.isRootfsInUse(record.rootfsKey),
  };
};

export const listKernels = (core: Core): KernelView[] =>
  core.kernels.listKernels().map(({ name, digest, version, source, sizeBytes, createdAt, key }) => ({
    ...{ name, digest, version, source, sizeBytes, createdAt },
    inUse: core.kernels.isKernelInUse(key),
  }));
