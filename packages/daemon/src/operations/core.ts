import type { KilnError, VmId } from "@kiln/protocol";
import type { Platform } from "@kiln/formats/oci";
import type { Clock, KeyedLock, RandomSource } from "@kiln/std";
import type { Config } from "../config/config.ts";
import type { ContentLeases } from "../images/leases.ts";
import type { ContentShelf } from "../images/ports.ts";
import type { CustomizationStore, UpperLayers } from "../images/promotion.port.ts";
import type { ImageStore } from "../images/records.port.ts";
import type { KernelStore } from "../kernels/records.port.ts";
import type { ImageChecks } from "../pipeline/checks.ts";
import type { ArtifactReader, CheckStore } from "../pipeline/checks.port.ts";
import type { Checkpoint } from "../pipeline/checkpoints.ts";
import type { Preboots } from "../pipeline/preboots.ts";
import type { ImageRefetch } from "../pipeline/refetch.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { KernelSets, RootfsFiles } from "../pipeline/artifacts.port.ts";
import type { JoinedWork } from "../pipeline/work.port.ts";
import type { AgentConnector } from "../vms/agent.port.ts";
import type { VmDisks } from "../vms/disks.port.ts";
import type { Driver } from "../vms/driver.port.ts";
import type { VmLogs } from "../vms/log.port.ts";
import type { VmNetworks } from "../vms/network.port.ts";
import type { Capacity, VmStore } from "../vms/store.port.ts";
import type { BootAdmission, RunAdmission } from "./admission.ts";
import type { BlobShelf } from "./collect-content.ts";
import type { EventLog } from "./events.port.ts";
import type { Pool } from "./pool.ts";
import type { Operations } from "./operations.ts";
import type { OpenPorts } from "./ports.ts";
import type { RunningVms } from "./running-vms.ts";
import type { SagaLog } from "./saga/saga.ts";

/** Where the daemon says what nobody waits for. */
export interface Journal {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** What the use cases work with; made once in main. */
export interface Core {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly journal: Journal;
  readonly operations: Operations;
  /** What happened, for whoever asks. */
  readonly events: EventLog;
  readonly pipeline: Pipeline;
  readonly vms: VmStore;
  /** What all VMs may hold together. */
  readonly capacity: Capacity & { readonly diskBytes: number };
  /** Who may run: VMs wait here for memory and CPUs. */
  readonly admission: RunAdmission;
  /** Who may boot: a boot is a core's work. */
  readonly boots: BootAdmission;
  /** The log of sagas that have not ended. */
  readonly sagas: SagaLog;
  readonly images: ImageStore;
  readonly kernels: KernelStore;
  readonly leases: ContentLeases;
  readonly blobs: BlobShelf;
  readonly content: ContentShelf;
  /** What makes layers of what VMs have written. */
  readonly upperLayers: UpperLayers;
  readonly customizations: CustomizationStore;
  /** What is done once for all who want it. */
  readonly work: JoinedWork;
  /** What reads artifacts in full, and when each was last found whole. */
  readonly artifacts: ArtifactReader;
  readonly checked: CheckStore;
  readonly checks: ImageChecks;
  readonly refetch: ImageRefetch;
  /** What guests on this host are. */
  readonly platform: Platform;
  /** null where VMs always boot cold. */
  readonly preboots: Preboots | null;
  /** Guests that wait for the VM that they will be; empty where none are wanted. */
  readonly pool: Pool;
  readonly rootfsFiles: RootfsFiles;
  readonly kernelSets: KernelSets;
  readonly disks: VmDisks;
  readonly logs: VmLogs;
  readonly driver: Driver;
  readonly networks: VmNetworks;
  readonly agent: AgentConnector;
  readonly running: RunningVms;
  /** The host's side of published ports. */
  readonly ports: OpenPorts;
  readonly checkpoint: Checkpoint;
  /** Aborts when the daemon begins to end: VMs run on, and what only follows them lets go. */
  readonly stopping: AbortSignal;
  /** One operation at a time on one VM (I18). */
  readonly vmLocks: KeyedLock<VmId>;
}

export const nowIso = (core: Pick<Core, "clock">): string => new Date(core.clock.now()).toISOString();

/** What a record keeps of an error. */
export const errorView = (error: KilnError): { code: string; detail: string } => ({ code: error.code, detail: error.message });
