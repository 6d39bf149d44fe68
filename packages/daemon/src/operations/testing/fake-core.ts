import { mkdirSync } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createVmRequest,
  type CreateVmRequest,
  type Digest,
  KilnError,
  type OperationView,
  type RegistryCredentials,
  type VmId,
  type VmView,
} from "@kiln/protocol";
import { KeyedLock, systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../agent/connector.ts";
import { parseConfig } from "../../config/config.ts";
import { ContentStore } from "../../content/content-store.ts";
import { PrebootDirectory } from "../../content/preboot-directory.ts";
import { UpperPacker } from "../../content/upper-layer/packer.ts";
import { SocketForwarder } from "../../forward/socket-forwarder.ts";
import { ContentLeases } from "../../images/leases.ts";
import type { FetchedImage, ImageSource, ResolvedImage } from "../../images/ports.ts";
import type { KernelSets, RootfsFiles } from "../../pipeline/artifacts.port.ts";
import { type PrebootParts, Preboots } from "../../pipeline/preboots.ts";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { SqliteArtifactStore } from "../../store/artifact-store.ts";
import { SqliteCustomizationStore } from "../../store/customization-store.ts";
import { Database } from "../../store/database.ts";
import { SqliteEventLog } from "../../store/event-log.ts";
import { SqliteOperationStore } from "../../store/operation-store.ts";
import { SqliteSagaLog } from "../../store/saga-log.ts";
import { DirectoryVmDisks } from "../../store/vm-disks.ts";
import { FileLogs } from "../../store/vm-log.ts";
import { SqliteVmStore } from "../../store/vm-store.ts";
import { FakeDriver } from "../../vmm/fake/driver.ts";
import { FakeHost, type FakeHostOptions } from "../../vmm/fake/host.ts";
import { toVmView } from "../../vms/record.ts";
import { BootAdmission, RunAdmission } from "../admission.ts";
import type { Core } from "../core.ts";
import { beginCreateVm } from "../create-vm.ts";
import { RecordedWork } from "../joined-work.ts";
import { adoptVms } from "../adopt-vms.ts";
import type { PoolShape } from "../../config/config.ts";
import { HomePool } from "../../store/pool-directories.ts";
import { Pool } from "../pool.ts";
import { Operations } from "../operations.ts";
import { OpenPorts } from "../ports.ts";
import { findInterrupted, forgiveResumes, resumeOperations } from "../resume-operations.ts";
import { RunningVms } from "../running-vms.ts";
import type { VmLog } from "../../vms/log.port.ts";
import type { VmNetworks } from "../../vms/network.port.ts";
import type { SagaRecord } from "../saga/saga.ts";
import { fakeArtifacts, fakeChecks } from "./fake-checks.ts";

const never = new AbortController().signal;
const SHA = `sha256:${"a".repeat(64)}` as Digest;
const MIB = 2 ** 20;
const NOBODY = { idempotencyKey: null, credentials: {}, caller: "" };
const PLATFORM = { os: "linux", architecture: "amd64", variant: "" };
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

export interface FakeCoreOptions extends FakeHostOptions {
  readonly memoryBytes?: number;
  readonly bootsLimit?: number;
  /** VMs start from pre-boot snapshots; by default they cannot. */
  readonly preboot?: boolean;
  /** How long a build of one may take. */
  readonly prebootBuildMs?: number;
  /** Guests that are kept ready; by default none. */
  readonly pool?: readonly PoolShape[];
  /** Held open until it resolves: the slow part of a pull. */
  readonly pull?: () => Promise<void>;
  /** What a pull ends with; by default always the same. */
  readonly root?: (credentials: RegistryCredentials) => Digest;
  /** Called at each failpoint. */
  readonly checkpoint?: (name: string) => Promise<void>;
}

/** The use cases on the fake driver with a real SQLite, real logs and real locks. */
export interface FakeCore extends AsyncDisposable {
  readonly core: Core;
  readonly host: FakeHost;
  readonly counts: { pulls: number; rootfs: number; kernels: number };
  /** Where the files of pre-boot snapshots are. */
  readonly preboots: string;
  create(request: Partial<CreateVmRequest> & { name: string }): OperationView;
  /** Ends this daemon as a crash would, and gives the core of the next one on the same records. */
  restart(): Core;
  /** Ends this daemon in order, and gives the core of the next one, which has adopted and resumed what it found. */
  handOver(): Promise<Core>;
  /** The operation once it has ended. */
  ended(operation: OperationView): Promise<OperationView>;
  vm(name: string): VmView | null;
}

export const createFakeCore = async (options: FakeCoreOptions = {}): Promise<FakeCore> => {
  const root = await mkdtemp(join(tmpdir(), "kiln-core-"));
  const owned = new AsyncDisposableStack();
  const host = new FakeHost(options);
  const counts = { pulls: 0, rootfs: 0, kernels: 0 };
  let stop = new AbortController();
  const { core, composeWork } = composeFake({ root, owned, host, counts, options, stopping: stop.signal });
  let current = core;
  const restart = (): Core => {
    stop.abort();
    for (const run of current.running.list()) void run.log.close();
    stop = new AbortController();
    const fresh = {
      running: new RunningVms(),
      ports: new OpenPorts(new SocketForwarder({ clock: core.clock })),
      vmLocks: new KeyedLock<VmId>(),
      boots: new BootAdmission(core.boots.limit),
      pool: createPool(root, options, stop.signal),
    };
    current = { ...current, ...fresh, stopping: stop.signal };
    return current;
  };
  return {
    ...{ core, host, counts, preboots: join(root, "preboots") },
    create: (request) => beginCreateVm(core, createVmRequest.parse({ image: "deb:fake", command: ["sleep", "1000"], ...request }), NOBODY),
    restart,
    handOver: async () => {
      current.operations.suspendAll();
      await current.operations.drain();
      forgiveResumes(current);
      await current.ports[Symbol.asyncDispose]();
      current = { ...restart(), ...composeWork() };
      const interrupted = findInterrupted(current);
      current.operations.failInterrupted(interrupted.operations);
      await adoptVms(current, interrupted.vms);
      resumeOperations(current, interrupted);
      return current;
    },
    ended: (operation) => current.operations.wait(operation.id, { signal: never }),
    vm: (name) => {
      const record = core.vms.find(name);
      return record === null ? null : toVmView(record);
    },
    [Symbol.asyncDispose]: async () => {
      current.operations.cancelAll();
      for (const machine of host.machines) machine.end({ reason: "killed" });
      await Promise.all(current.running.list().map((run) => run.finished.promise));
      await current.operations.drain();
      await current.ports[Symbol.asyncDispose]();
      await current.pool[Symbol.asyncDispose]();
      await owned.disposeAsync();
      await rm(root, { recursive: true, force: true });
    },
  };
};

/** What another daemon makes anew. */
type WorkParts = Pick<Core, "work" | "operations" | "pipeline" | "sagas" | "preboots" | "checks" | "refetch">;

const composeFake = (parts: {
  root: string;
  owned: AsyncDisposableStack;
  host: FakeHost;
  counts: FakeCore["counts"];
  options: FakeCoreOptions;
  stopping: AbortSignal;
}): { core: Core; composeWork: () => WorkParts } => {
  const { root, owned, host, counts, options, stopping } = parts;
  const [clock, random] = [systemClock, systemRandom];
  const database = new Database(":memory:");
  const artifacts = new SqliteArtifactStore(database);
  const capacity = { memoryBytes: options.memoryBytes ?? 1024 * 512 * MIB, cpus: 100_000, diskBytes: 2 ** 50 };
  const vms: SqliteVmStore = new SqliteVmStore(database, { onFreed: () => admission.freed() });
  const admission = new RunAdmission(vms, capacity);
  const leases = new ContentLeases(clock);
  const [rootfsFiles, kernelSets] = [fakeRootfs(counts), fakeKernels(counts)];
  const checkpoint = options.checkpoint ?? (async () => undefined);
  const [driver, agent] = [new FakeDriver(host), createAgentConnector({ clock, random })];
  const composeWork = (): WorkParts => {
    const operations = new Operations({ store: new SqliteOperationStore(database), clock, random, journal: SILENT, stopping: never });
    const work = new RecordedWork(operations);
    const pipeline = new Pipeline({
      ...{ work, clock, images: artifacts, kernels: artifacts, leases, rootfsFiles, kernelSets, checkpoint },
      sources: [fakeSource(counts, options)],
      content: { isComplete: async () => true },
      rootfsKey: () => "f".repeat(64),
      platform: PLATFORM,
      distinguish: (secret) => secret,
    });
    const sagas = new SqliteSagaLog<SagaRecord>(database, { viewOf: (id) => operations.findLive(id) });
    const preboots =
      options.preboot === true
        ? fakePreboots(
            { root, owned, buildMs: options.prebootBuildMs ?? NOT_AGAIN_MS },
            { work, clock, checkpoint, store: artifacts, driver, agent },
          )
        : null;
    const checks = fakeChecks({ work, clock, images: artifacts, leases, checkpoint }, SHA);
    return { work, operations, pipeline, sagas, preboots, ...checks };
  };
  const disks = fakeDisks(root);
  const content = new ContentStore({ directory: join(root, "content"), stagingDir: join(root, "content-staging") });
  const core: Core = {
    config: fakeConfig(root, options),
    ...composeWork(),
    ...{ clock, random, rootfsFiles, kernelSets, disks, checkpoint, leases },
    platform: PLATFORM,
    blobs: { list: async function* () {}, removeNow: () => 0 },
    ...{ content, upperLayers: new UpperPacker(content), customizations: new SqliteCustomizationStore(database) },
    ...fakeArtifacts(database, SHA),
    journal: SILENT,
    stopping,
    ...{ vms, capacity, admission },
    events: new SqliteEventLog(database),
    images: artifacts,
    kernels: artifacts,
    logs: owned.use(new OwnedLogs((id) => disks.directory(id))),
    ...{ driver, agent, networks: NO_NETWORKS, pool: createPool(root, options, stopping) },
    running: new RunningVms(),
    ports: new OpenPorts(new SocketForwarder({ clock })),
    vmLocks: new KeyedLock<VmId>(),
    boots: new BootAdmission(options.bootsLimit ?? 4),
  };
  return { core, composeWork };
};

/** A daemon that has crashed holds no file; one that is none would, where it was in the middle of something. */
class OwnedLogs extends FileLogs implements AsyncDisposable {
  readonly #begun: VmLog[] = [];

  override async begin(id: VmId): Promise<VmLog> {
    const log = await super.begin(id);
    this.#begun.push(log);
    return log;
  }

  override async open(id: VmId): ReturnType<FileLogs["open"]> {
    const log = await super.open(id);
    if (log !== null) this.#begun.push(log);
    return log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#begun.map((log) => log.close()));
  }
}

const HELPER = join(import.meta.dirname, "../../../../../.cache/agent/kiln-descriptors");
const NOT_AGAIN_MS = 60_000;

const fakePreboots = (
  { root, owned, buildMs }: { root: string; owned: AsyncDisposableStack; buildMs: number },
  parts: Pick<PrebootParts, "work" | "clock" | "checkpoint" | "store" | "driver" | "agent">,
): Preboots => {
  const [directory, stagingDir] = [join(root, "preboots"), join(root, "staging")];
  mkdirSync(stagingDir, { recursive: true });
  const files = owned.use(new PrebootDirectory({ directory, stagingDir, program: HELPER }));
  const admit = async (): Promise<Disposable> => ({ [Symbol.dispose]: () => undefined });
  return new Preboots({ ...parts, files, admit, uid: null, retryMs: NOT_AGAIN_MS, buildMs });
};

/** What a daemon that has crashed would still do to its pool, it does not: `stopped` says that it has. */
const createPool = (root: string, { pool = [] }: FakeCoreOptions, stopped: AbortSignal): Pool => {
  mkdirSync(join(root, "pool"), { recursive: true });
  const real = new HomePool({ root: join(root, "pool"), write: async () => undefined, randomUuid: () => "" });
  return new Pool(pool, {
    make: async (entry, options) => {
      stopped.throwIfAborted();
      return real.make(entry, options);
    },
    remove: async (directory) => (stopped.aborted ? undefined : real.remove(directory)),
    list: async () => (stopped.aborted ? [] : real.list()),
  });
};

/** The fake driver's guests have no NIC. */
const NO_NETWORKS: VmNetworks = {
  open: () => Promise.reject(new KilnError("NETWORK_UNAVAILABLE", "a test asked for a network")),
  reconcile: async () => 0,
  close: async () => undefined,
};

const fakeConfig = (root: string, options: FakeCoreOptions) =>
  parseConfig({
    argv: ["--home", root, "--driver", "fake"],
    env: { KILN_MEMORY_BYTES: String(options.memoryBytes ?? 1024 * 512 * MIB) },
    host: { cpus: 2, memoryBytes: 1, uid: 1000 },
    defaults: { home: root, agentPath: "", helperPath: "" },
  });

const fakeSource = (counts: FakeCore["counts"], { pull, root = () => SHA }: FakeCoreOptions): ImageSource => ({
  accepts: (reference) => reference.startsWith("deb:"),
  resolve: async () => null,
  fetch: async (reference, { signal, credentials }): Promise<FetchedImage> => {
    counts.pulls += 1;
    await pull?.();
    signal.throwIfAborted();
    const config = { entrypoint: [], cmd: [], env: [], workingDir: "/", user: "", stopSignal: "", diffIds: [], platform: PLATFORM };
    const digest = root(credentials);
    const image = { reference, manifestDigest: digest, configDigest: digest, platform: PLATFORM, config, layers: [] };
    return { image: image as unknown as ResolvedImage, root: digest };
  },
});

const fakeRootfs = (counts: FakeCore["counts"]): RootfsFiles => ({
  path: () => "/nonexistent/rootfs",
  build: async () => {
    counts.rootfs += 1;
    return { digest: SHA, fingerprint: { size: 1, ino: "1", mtimeNs: "1", ctimeNs: "1" } };
  },
  isWhole: async () => true,
  removeNow: () => 0,
});

const fakeKernels = (counts: FakeCore["counts"]): KernelSets => ({
  builderDigest: async () => "builder",
  build: async () => {
    counts.kernels += 1;
    return {
      key: "k",
      name: "debian-cloud",
      version: "1",
      source: "fake",
      builderDigest: "builder",
      digest: SHA,
      sizeBytes: 1,
      createdAt: "now",
    };
  },
  isWhole: async () => true,
  remove: async () => undefined,
  open: async () => ({ vmlinux: "", initramfs: "", digest: SHA, modulesImage: "", setupModules: [], networkModules: [] }),
});

const fakeDisks = (root: string): DirectoryVmDisks =>
  new DirectoryVmDisks({
    root,
    randomUuid: () => "",
    write: async () => undefined,
    publish: async (target) => {
      await using file = await open(target, "w");
      await file.truncate(8 * 2 ** 30);
    },
  });
