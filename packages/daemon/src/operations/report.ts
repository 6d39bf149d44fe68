import type { DaemonStatus, KernelView } from "@kiln/protocol";
import { signalAfter } from "@kiln/std";
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

export const reportStatus = async (core: Core, facts: DaemonFacts): Promise<DaemonStatus> => {
  const vms = core.vms.list();
  const reserved = core.vms.reserved();
  const { name } = core.driver;
  using patience = signalAfter(PROBE_MS, core.clock);
  const driver = await core.driver
    .probe(null, { signal: patience.signal })
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
      memoryBytes: { total: core.capacity.memoryBytes, reserved: reserved.memoryBytes },
      cpus: { total: core.capacity.cpus, reserved: reserved.cpus },
      diskBytes: { total: core.capacity.diskBytes, reserved: reserved.diskBytes },
      waiting: core.admission.waiting,
      boots: { limit: core.boots.limit, running: core.boots.active, queued: core.boots.waiting },
    },
    pool: core.pool.report(),
  };
};

export const listKernels = (core: Core): KernelView[] =>
  core.kernels.listKernels().map(({ name, digest, version, source, sizeBytes, createdAt, key }) => ({
    ...{ name, digest, version, source, sizeBytes, createdAt },
    inUse: core.kernels.isKernelInUse(key),
    shapes: core.preboots?.shapesOf(key) ?? [],
  }));
