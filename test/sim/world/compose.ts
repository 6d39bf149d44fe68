import { KilnError, type VmId } from "@kiln/protocol";
import { type Clock, KeyedLock, seededRandom } from "@kiln/std";
import { createAgentConnector } from "../../../packages/daemon/src/agent/connector.ts";
import { type Config, parseConfig } from "../../../packages/daemon/src/config/config.ts";
import { ContentLeases } from "../../../packages/daemon/src/images/leases.ts";
import type { ResolvedImage } from "../../../packages/daemon/src/images/ports.ts";
import { rootfsKey } from "../../../packages/daemon/src/images/rootfs-key.ts";
import { BootAdmission, RunAdmission } from "../../../packages/daemon/src/operations/admission.ts";
import type { Core, Journal } from "../../../packages/daemon/src/operations/core.ts";
import { RecordedWork } from "../../../packages/daemon/src/operations/joined-work.ts";
import { OPERATION_LIMITS } from "../../../packages/daemon/src/operations/limits.ts";
import { Operations } from "../../../packages/daemon/src/operations/operations.ts";
import { Pool } from "../../../packages/daemon/src/operations/pool.ts";
import { OpenPorts } from "../../../packages/daemon/src/operations/ports.ts";
import { RunningVms } from "../../../packages/daemon/src/operations/running-vms.ts";
import type { SagaRecord } from "../../../packages/daemon/src/operations/saga/saga.ts";
import { ImageChecks } from "../../../packages/daemon/src/pipeline/checks.ts";
import { Pipeline } from "../../../packages/daemon/src/pipeline/pipeline.ts";
import { type PrebootParts, Preboots } from "../../../packages/daemon/src/pipeline/preboots.ts";
import { ImageRefetch } from "../../../packages/daemon/src/pipeline/refetch.ts";
import { SqliteArtifactStore } from "../../../packages/daemon/src/store/artifact-store.ts";
import { SqliteCheckStore } from "../../../packages/daemon/src/store/check-store.ts";
import { SqliteCustomizationStore } from "../../../packages/daemon/src/store/customization-store.ts";
import type { Database } from "../../../packages/daemon/src/store/database.ts";
import { SqliteEventLog } from "../../../packages/daemon/src/store/event-log.ts";
import { SqliteOperationStore } from "../../../packages/daemon/src/store/operation-store.ts";
import { SqliteSagaLog } from "../../../packages/daemon/src/store/saga-log.ts";
import { SqliteVmStore } from "../../../packages/daemon/src/store/vm-store.ts";
import type { FakeHost } from "../../../packages/daemon/src/vmm/fake/host.ts";
import type { VmNetworks } from "../../../packages/daemon/src/vms/network.port.ts";
import type { SimDisk } from "../disk.ts";
import type { Life } from "../life.ts";
import type { Scheduler } from "../scheduler.ts";
import { SimContent } from "./content.ts";
import { createDriver } from "./driver.ts";
import type { Troubles } from "./faults.ts";
import type { SimPorts } from "./forwarder.ts";
import { HomeFiles } from "./home-files.ts";
import { SimKernels } from "./kernels.ts";
import { SimPacker } from "./packer.ts";
import { HOME } from "./paths.ts";
import { SimPreboots } from "./preboots.ts";
import { SimArtifactReader } from "./reader.ts";
import type { SimRecords } from "./records.ts";
import type { SimRegistry } from "./registry.ts";
import { SimRootfs } from "./rootfs.ts";
import { SimLogs } from "./vm-log.ts";
import { SimPoolDirectories, SimVmDisks } from "./vm-files.ts";

export interface Capacities {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly diskBytes: number;
  readonly bootsLimit: number;
  readonly preboot: boolean;
  /** As the daemon's --pool: "2:1x64m". */
  readonly pool: string;
}

/** What of the world one daemon meets. */
export interface Surroundings {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
  readonly records: SimRecords;
  readonly registry: SimRegistry;
  readonly host: FakeHost;
  readonly ports: SimPorts;
  readonly troubles: Troubles;
  readonly capacities: Capacities;
  readonly journal: Journal;
  /** What stands for the agent and the kernel's builder. */
  readonly builder: () => string;
}

export interface Composed {
  readonly core: Core;
  readonly home: HomeFiles;
  readonly beginStop: () => void;
}

const PLATFORM = { os: "linux", architecture: "amd64", variant: "" };
const HOST = { cpus: 2, memoryBytes: 2 ** 34, uid: 1000 };

/** What a fake driver's guests need of the network. */
const NO_NETWORKS: VmNetworks = {
  open: () => Promise.reject(new KilnError("NETWORK_UNAVAILABLE", "the simulated host has no network")),
  reconcile: async () => 0,
  close: async () => undefined,
};

/** One daemon of the simulated world, put together as compose.ts does it. */
export const compose = (around: Surroundings, life: Life): Composed => {
  const { scheduler, capacities, troubles, journal } = around;
  const clock = scheduler.clockOf(life);
  const random = seededRandom(scheduler.dice.below(2 ** 32));
  const database = around.records.openFor(life, clock);
  const home = new HomeFiles(around.disk, { life, troubles, random });
  const stop = new AbortController();
  const operations = new Operations({ store: new SqliteOperationStore(database), clock, random, journal, stopping: stop.signal });
  const boots = new BootAdmission(capacities.bootsLimit);
  const records = createRecords(database, operations);
  const checkpoint = (name: string): Promise<void> => troubles.step(name, life);
  const work = new RecordedWork(operations);
  const common = { clock, work, checkpoint, leases: new ContentLeases(clock), images: records.images, kernels: records.kernels };
  const shelves = createShelves(home, { clock, builder: around.builder });
  const guests = { driver: createDriver({ ...around, life }), agent: createAgentConnector({ clock, random }) };
  const core: Core = {
    ...{ ...common, ...records, ...guests, random, journal, operations, boots },
    ...{ config: configOf(capacities), platform: PLATFORM, stopping: stop.signal },
    ...createAdmission(capacities, { database, onFreed: () => core.pool.refill(core) }),
    ...createHostSide(around, { life, home }),
    ...createPipelines(around, { common, shelves, life }),
    ...{ content: shelves.content, blobs: shelves.content, rootfsFiles: shelves.rootfs, kernelSets: shelves.kernels },
    artifacts: new SimArtifactReader(home, shelves),
    upperLayers: new SimPacker(home, shelves.content),
    preboots: capacities.preboot ? createPreboots({ ...common, ...guests, store: records.images, files: shelves.preboots }, boots) : null,
    ...{ running: new RunningVms(), vmLocks: new KeyedLock<VmId>() },
  };
  return { core, home, beginStop: () => stop.abort(new KilnError("DAEMON_UNREACHABLE", "the daemon ends")) };
};

const configs = new Map<string, Config>();

/** To parse it takes longer than much of a program. */
const configOf = ({ memoryBytes, pool }: Capacities): Config => {
  const key = `${memoryBytes} ${pool}`;
  const known = configs.get(key);
  if (known !== undefined) return known;
  const config = parseConfig({
    argv: ["--home", HOME.home, "--driver", "fake", ...(pool === "" ? [] : ["--pool", pool])],
    env: { KILN_MEMORY_BYTES: String(memoryBytes) },
    host: HOST,
    defaults: { home: HOME.home, agentPath: "", helperPath: "" },
  });
  configs.set(key, config);
  return config;
};

const createAdmission = (
  { memoryBytes, cpus, diskBytes }: Capacities,
  { database, onFreed }: { database: Database; onFreed: () => void },
): Pick<Core, "vms" | "admission" | "capacity"> => {
  const capacity = { memoryBytes, cpus, diskBytes };
  const vms: SqliteVmStore = new SqliteVmStore(database, {
    onFreed: () => {
      admission.freed();
      onFreed();
    },
  });
  const admission = new RunAdmission(vms, capacity);
  return { vms, admission, capacity };
};

const createRecords = (database: Database, operations: Operations) => {
  const artifacts = new SqliteArtifactStore(database);
  return {
    ...{ images: artifacts, kernels: artifacts, events: new SqliteEventLog(database) },
    ...{ checked: new SqliteCheckStore(database), customizations: new SqliteCustomizationStore(database) },
    sagas: new SqliteSagaLog<SagaRecord>(database, { viewOf: (id) => operations.findLive(id) }),
  };
};

interface Shelves {
  readonly content: SimContent;
  readonly rootfs: SimRootfs;
  readonly kernels: SimKernels;
  readonly preboots: SimPreboots;
}

const createShelves = (home: HomeFiles, options: { clock: Clock; builder: () => string }): Shelves => ({
  content: new SimContent(home),
  rootfs: new SimRootfs(home),
  kernels: new SimKernels(home, options),
  preboots: new SimPreboots(home),
});

const createHostSide = (
  { ports, troubles, capacities }: Surroundings,
  { life, home }: { life: Life; home: HomeFiles },
): Pick<Core, "disks" | "logs" | "networks" | "ports" | "pool"> => {
  const disks = new SimVmDisks(home);
  const { pool } = configOf(capacities);
  return {
    ...{ disks, logs: new SimLogs(home, (id) => disks.directory(id)), networks: NO_NETWORKS },
    ports: new OpenPorts(ports.forwarderFor({ life, troubles })),
    pool: new Pool(pool, new SimPoolDirectories(home)),
  };
};

type Common = Pick<Core, "clock" | "work" | "checkpoint" | "leases" | "images" | "kernels">;

const createPipelines = (
  { registry, troubles }: Surroundings,
  { common, shelves, life }: { common: Common; shelves: Shelves; life: Life },
): Pick<Core, "pipeline" | "checks" | "refetch"> => {
  const { images, work } = common;
  const { content, rootfs } = shelves;
  const sources = [registry.sourceFor({ content, life, troubles })];
  const reader = new SimArtifactReader(content.home, shelves);
  return {
    pipeline: new Pipeline({
      ...{ ...common, rootfsFiles: rootfs, kernelSets: shelves.kernels, sources, platform: PLATFORM },
      content: { isComplete: (image) => isComplete(content, image) },
      rootfsKey: (image) => rootfsKey(image, { version: "1", options: {} }),
      distinguish: (secret) => secret,
    }),
    checks: new ImageChecks({ ...common, reader, rootfsChecks: rootfs }),
    refetch: new ImageRefetch({ images, sources, work }),
  };
};

const isComplete = async (content: SimContent, image: ResolvedImage): Promise<boolean> => {
  for (const digest of [image.configDigest, ...image.layers.map((layer) => layer.digest)]) if (!(await content.has(digest))) return false;
  return true;
};

const createPreboots = (parts: Omit<PrebootParts, "uid" | "retryMs" | "buildMs" | "admit">, boots: BootAdmission): Preboots =>
  new Preboots({
    ...parts,
    ...{ uid: null, retryMs: OPERATION_LIMITS.prebootRetryMs, buildMs: BUILD_MS },
    admit: (signal) => boots.acquire({ caller: "preboot", signal, position: () => undefined }),
  });

/** As long as a boot may take. */
const BUILD_MS = 120_000;
