import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { statfsSync } from "node:fs";
import { WRITER_VERSION } from "@kiln/formats/ext4";
import { platformText } from "@kiln/formats/oci";
import { BUNDLE_VERSION, type BundleManifest, type Digest, KilnError, type VmId } from "@kiln/protocol";
import { KeyedLock, systemClock, systemRandom } from "@kiln/std";
import { declareFailpoint, type Failpoint, failpoint, publishFile } from "@kiln/std/node";
import { createAgentConnector } from "./agent/connector.ts";
import { type Config, DISK_OVERCOMMIT } from "./config/config.ts";
import { ArtifactReader } from "./content/artifact-reader.ts";
import { readBundle } from "./content/bundle/read-bundle.ts";
import { writeBundle } from "./content/bundle/write-bundle.ts";
import { ContentStore } from "./content/content-store.ts";
import { DebImageSource } from "./content/deb-image.ts";
import { KernelDirectory } from "./content/kernel-directory.ts";
import { PrebootDirectory } from "./content/preboot-directory.ts";
import { RootfsChecks } from "./content/rootfs-checks.ts";
import { RootfsDirectory } from "./content/rootfs-directory.ts";
import { UpperPacker } from "./content/upper-layer/packer.ts";
import { createEmptyDisk } from "./content/rootfs/index.ts";
import { Apt } from "./host/apt.ts";
import { SocketForwarder } from "./forward/socket-forwarder.ts";
import type { BlobReceiver, Bundles, ImageImporter } from "./http/parts.ts";
import type { RequestStore } from "./http/requests.port.ts";
import { guestPlatform, parsePlatform } from "./images/host-platform.ts";
import { planImport } from "./images/import-plan.ts";
import { ContentLeases } from "./images/leases.ts";
import type { ContentReader, ImageSource, ResolvedImage } from "./images/ports.ts";
import { executionOf } from "./images/registered-image.ts";
import { parseImageReference } from "./images/reference.ts";
import { rootfsKey } from "./images/rootfs-key.ts";
import { EgressNetwork } from "./network/egress.ts";
import { BootAdmission, RunAdmission } from "./operations/admission.ts";
import type { Core, Journal } from "./operations/core.ts";
import { RecordedWork } from "./operations/joined-work.ts";
import type { RegistryImageSource } from "./registry/registry-image.ts";
import { OPERATION_LIMITS } from "./operations/limits.ts";
import { Pool } from "./operations/pool.ts";
import { Operations } from "./operations/operations.ts";
import { OpenPorts } from "./operations/ports.ts";
import { SAGA_POINTS } from "./operations/resume-operations.ts";
import type { SagaRecord } from "./operations/saga/saga.ts";
import { RunningVms } from "./operations/running-vms.ts";
import { ImageChecks } from "./pipeline/checks.ts";
import { type Checkpoint, CHECKPOINTS } from "./pipeline/checkpoints.ts";
import { type PrebootParts, Preboots } from "./pipeline/preboots.ts";
import { ImageRefetch } from "./pipeline/refetch.ts";
import { KERNEL_NAME, Pipeline } from "./pipeline/pipeline.ts";
import { SqliteArtifactStore } from "./store/artifact-store.ts";
import { SqliteCheckStore } from "./store/check-store.ts";
import { SqliteCustomizationStore } from "./store/customization-store.ts";
import { Database } from "./store/database.ts";
import { SqliteEventLog } from "./store/event-log.ts";
import type { HomePaths } from "./store/home.ts";
import { SqliteOperationStore } from "./store/operation-store.ts";
import { SqliteRequestStore } from "./store/request-store.ts";
import { SqliteSagaLog } from "./store/saga-log.ts";
import { HomePool } from "./store/pool-directories.ts";
import { DirectoryVmDisks } from "./store/vm-disks.ts";
import { FileLogs } from "./store/vm-log.ts";
import { SqliteVmStore } from "./store/vm-store.ts";
import { FakeDriver } from "./vmm/fake/driver.ts";
import { QemuDriver } from "./vmm/qemu/driver.ts";
import type { Driver } from "./vms/driver.port.ts";

/** The composition root: the only file that names concrete adapters. */
export interface Composition extends AsyncDisposable {
  readonly core: Core;
  readonly blobs: BlobReceiver;
  readonly importer: ImageImporter;
  readonly bundles: Bundles;
  /** Answers by idempotency key. */
  readonly requests: RequestStore;
  /** Takes room on the disk for what has to be written down when it is full. */
  readonly takeSpareRoom: () => void;
  /** Aborts the core's `stopping`. */
  readonly beginStop: () => void;
}

export const HOST_REGISTRIES = "/etc/kiln/registries.toml";

export const compose = (parts: { config: Config; paths: HomePaths; journal: Journal; version: string }): Composition => {
  const { config, paths, journal, version } = parts;
  const [clock, random] = [systemClock, systemRandom];
  const database = new Database(paths.database);
  const artifacts = new SqliteArtifactStore(database);
  const stop = new AbortController();
  const operations = new Operations({ store: new SqliteOperationStore(database), clock, random, journal, stopping: stop.signal });
  const shelf = new ContentStore({ directory: paths.content, stagingDir: paths.staging });
  const leases = new ContentLeases(clock);
  const platform = guestPlatform(process.arch);
  const apt = new Apt({ stagingDir: paths.staging, clock });
  const checkpoint = declareCheckpoints();
  const rootfsFiles = new RootfsDirectory({
    ...{ directory: paths.rootfs, stagingDir: paths.staging, limits: config.rootfsLimits, buildsAtOnce: config.buildsLimit },
    blobPath: (digest) => shelf.path(digest),
  });
  const kernelSets = new KernelDirectory({ directory: paths.kernels, stagingDir: paths.staging, agentPath: config.agentPath, apt, clock });
  const disks = createDisks(paths);
  const networks = new EgressNetwork({ directory: paths.network, stagingDir: paths.staging, uid: config.uidBase, clock, journal });
  const registry = createRegistrySource({ shelf, paths, version });
  const work = new RecordedWork(operations);
  const sources = [new DebImageSource({ apt, content: shelf, platform }), registry];
  const pipeline = new Pipeline({
    ...{ work, clock, images: artifacts, kernels: artifacts, leases, rootfsFiles, kernelSets, checkpoint },
    ...{ sources, platform, distinguish: createDistinguish() },
    content: { isComplete: (image) => isComplete(shelf, image) },
    rootfsKey: (image) => rootfsKey(image, { version: String(WRITER_VERSION), options: {} }),
  });
  const [driver, agent] = [createDriver(config, paths), createAgentConnector({ clock, random, helloMs: config.bootTimeoutMs })];
  const boots = new BootAdmission(config.bootsLimit);
  const prebootFiles = new PrebootDirectory({ directory: paths.preboots, stagingDir: paths.staging, program: config.helperPath });
  const preboots = createPreboots(config, {
    ...{ driver, agent, work, clock, checkpoint, store: artifacts, files: prebootFiles },
    admit: (signal) => boots.acquire({ caller: "preboot", signal, position: () => undefined }),
  });
  const reader = new ArtifactReader({ content: shelf, rootfs: rootfsFiles, kernels: kernelSets, preboots: prebootFiles });
  const rootfsChecks = new RootfsChecks({ rootfs: rootfsFiles, stagingDir: paths.staging });
  const pool = new Pool(config.pool, new HomePool({ root: paths.pool, write: createEmptyDisk, randomUuid: randomUUID }));
  const core: Core = {
    ...{ config, clock, random, journal, operations, pipeline, rootfsFiles, kernelSets, disks, checkpoint, leases, platform },
    ...{ blobs: shelf, content: shelf, upperLayers: new UpperPacker(shelf), customizations: new SqliteCustomizationStore(database), work },
    artifacts: reader,
    checked: new SqliteCheckStore(database),
    checks: new ImageChecks({ work, clock, images: artifacts, leases, reader, rootfsChecks, checkpoint }),
    refetch: new ImageRefetch({ images: artifacts, sources, work }),
    ...createAdmission(config, { paths, database, onFreed: () => core.pool.refill(core) }),
    events: new SqliteEventLog(database),
    sagas: new SqliteSagaLog<SagaRecord>(database, { viewOf: (id) => operations.findLive(id) }),
    images: artifacts,
    kernels: artifacts,
    logs: new FileLogs((id) => disks.directory(id)),
    ...{ driver, agent, boots, preboots, pool, networks },
    running: new RunningVms(),
    ports: new OpenPorts(new SocketForwarder({ clock })),
    stopping: stop.signal,
    vmLocks: new KeyedLock<VmId>(),
  };
  return {
    core,
    beginStop: () => stop.abort(new KilnError("DAEMON_UNREACHABLE", "the daemon ends")),
    ...{ requests: new SqliteRequestStore(database), takeSpareRoom: () => database.takeSpareRoom() },
    ...createUploads({ shelf, rootfsFiles }, { leases, version }),
    [Symbol.asyncDispose]: async () => {
      await networks[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await prebootFiles[Symbol.asyncDispose]();
      database[Symbol.dispose]();
    },
  };
};

/** The client of registries, whose HTTP library is loaded at its first use: a daemon that starts for a `deb:` image does not wait for it. */
const createRegistrySource = (parts: { shelf: ContentStore; paths: HomePaths; version: string }): ImageSource & AsyncDisposable => {
  const { shelf, paths, version } = parts;
  let loaded: Promise<RegistryImageSource> | null = null;
  const load = (): Promise<RegistryImageSource> => {
    loaded ??= Promise.all([import("./registry/registry-image.ts"), import("./registry/registry-config.ts")]).then(
      ([{ RegistryImageSource: Source }, { loadRegistryConfig }]) =>
        new Source({
          ...{ content: shelf, env: process.env, clock: systemClock, random: systemRandom, userAgent: `kiln/${version}` },
          // what the home says counts more than what the host says
          config: loadRegistryConfig([HOST_REGISTRIES, paths.registries]),
        }),
    );
    return loaded;
  };
  return {
    accepts: (reference) => parseImageReference(reference).transport === "docker",
    resolve: async (reference, options) => (await load()).resolve(reference, options),
    fetch: async (reference, options) => (await load()).fetch(reference, options),
    [Symbol.asyncDispose]: async () => {
      await (await loaded)?.[Symbol.asyncDispose]();
    },
  };
};

/** The uid below that of the driver's own trials: no VM has it. */
const PREBOOT_UID_BELOW_BASE = 2;

const createPreboots = (config: Config, parts: Omit<PrebootParts, "uid" | "retryMs" | "buildMs">): Preboots | null => {
  if (!config.preboot || !parts.driver.capabilities.memorySnapshot) return null;
  const uid = config.uidBase === null ? null : config.uidBase - PREBOOT_UID_BELOW_BASE;
  return new Preboots({ ...parts, uid, retryMs: OPERATION_LIMITS.prebootRetryMs, buildMs: config.bootTimeoutMs });
};

export const createDriver = (config: Config, paths: HomePaths): Driver =>
  config.driver === "fake"
    ? new FakeDriver()
    : new QemuDriver({ cacheDir: paths.cache, stagingDir: paths.staging, helper: config.helperPath, clock: systemClock });

const createAdmission = (
  config: Config,
  { paths, database, onFreed }: { paths: HomePaths; database: Database; onFreed: () => void },
): Pick<Core, "vms" | "admission" | "capacity"> => {
  const { blocks, bsize } = statfsSync(paths.home);
  const { memoryBytes, cpus } = config;
  const capacity = { memoryBytes, cpus, diskBytes: config.diskBytes ?? blocks * bsize * DISK_OVERCOMMIT };
  const vms: SqliteVmStore = new SqliteVmStore(database, {
    onFreed: () => {
      admission.freed();
      onFreed();
    },
  });
  const admission = new RunAdmission(vms, capacity);
  return { vms, admission, capacity };
};

const createDisks = (paths: HomePaths): DirectoryVmDisks =>
  new DirectoryVmDisks({
    root: paths.vms,
    randomUuid: randomUUID,
    write: createEmptyDisk,
    publish: async (target, write) => {
      await publishFile({ target, stagingDir: paths.staging, ifExists: "keep", write: (_file, path) => write(path) });
    },
  });

const isComplete = async (shelf: ContentStore, image: ResolvedImage): Promise<boolean> => {
  const found = await Promise.all([image.configDigest, ...image.layers.map((layer) => layer.digest)].map((digest) => shelf.has(digest)));
  return found.every(Boolean);
};

const createUploads = (
  { shelf, rootfsFiles }: { shelf: ContentStore; rootfsFiles: RootfsDirectory },
  { leases, version }: { leases: ContentLeases; version: string },
): { blobs: BlobReceiver; importer: ImageImporter; bundles: Bundles } => ({
  bundles: createBundles({ content: shelf, rootfs: rootfsFiles }, { leases, version }),
  blobs: {
    has: (digest) => shelf.has(digest),
    open: (digest) => shelf.open(digest),
    receive: async (digest, source, { size, signal }) => {
      using _lease = leases.begin();
      leases.holdForAWhile(digest);
      await shelf.ingest(source, { expected: { digest, size }, signal });
    },
    receiveUnnamed: async (source, { signal }) => {
      using lease = leases.begin();
      lease.linger();
      return await shelf.ingestUnnamed(source, { lease, signal });
    },
  },
  importer: {
    plan: ({ reference, root, tag, platform }, options) => {
      const wanted = platform === null ? guestPlatform(process.arch) : parsePlatform(platform);
      // what is found there stays until the caller has sent the rest
      const seen: ContentReader = {
        stat: (digest) => {
          leases.holdForAWhile(digest);
          return shelf.stat(digest);
        },
        read: (digest, how) => shelf.read(digest, how),
      };
      return planImport({ reference, root: root as Digest, tag, platform: wanted }, seen, options);
    },
  },
});

const createBundles = (
  { content, rootfs }: { content: ContentStore; rootfs: RootfsDirectory },
  { leases, version }: { leases: ContentLeases; version: string },
): Bundles => ({
  receive: async (source, { signal }) => {
    using lease = leases.begin();
    const manifest = await readBundle(source, content, { signal, hold: (digest) => lease.hold(digest) });
    lease.linger();
    return manifest;
  },
  write: ({ reference, image, rootfsKey: key }, { digest, fingerprint }, { signal }) => {
    const manifest: BundleManifest = {
      ...{ formatVersion: BUNDLE_VERSION, reference, platform: platformText(image.platform), config: executionOf(image.config) },
      rootfs: { digest, sizeBytes: fingerprint.size },
      ...{ kernel: KERNEL_NAME, createdBy: `kiln ${version}` },
    };
    return writeBundle(manifest, rootfs.path(key), signal);
  },
});

/** Keyed with what nobody outside this process knows: a name in a record tells nothing of the secret. */
const createDistinguish = (): ((secret: string) => string) => {
  const key = randomBytes(32);
  return (secret) => createHmac("sha256", key).update(secret).digest("hex").slice(0, 8);
};

const declareCheckpoints = (): Checkpoint => {
  const points = new Map<string, Failpoint>([...CHECKPOINTS, ...SAGA_POINTS].map((name) => [name, declareFailpoint(name)]));
  return async (name) => {
    const point = points.get(name);
    if (point === undefined) throw new KilnError("INTERNAL", `there is no checkpoint ${name}`);
    await failpoint(point);
  };
};
