import { setTimeout as sleep } from "node:timers/promises";
import { Sandbox } from "@kiln/sdk";
import { cpuMs } from "./cpu.ts";
import { IMAGE, openHome } from "./home.ts";
import { compare, type Figure, percentile } from "./measure.ts";
import { readMib } from "./proc-memory.ts";

const VMS = 40;
const MEMORY_BYTES = 256 * 2 ** 20;
const SETTLE_MS = 3_000;
const IDLE_MS = 20_000;

/** Idle VMs of one image and shape: what each holds of the host's memory, shared pages in parts, and what it computes. */
export const benchDensity = async (): Promise<Figure> => {
  await using home = await openHome();
  const { kiln } = home;
  await kiln.operations.result(await kiln.kernels.warm({ memoryBytes: MEMORY_BYTES }));
  const { pid: daemon } = await kiln.daemon.status();
  const daemonBefore = await readMib(`/proc/${daemon}/status`, "VmRSS");
  await using undo = new AsyncDisposableStack();
  const pids: number[] = [];
  let failures = 0;
  for (let made = 0; made < VMS; made += 1) {
    try {
      const sandbox = undo.use(await Sandbox.create({ kiln, image: IMAGE, memoryBytes: MEMORY_BYTES }));
      const { pid, startPath } = await kiln.vms.get(sandbox.id);
      if (pid === null || startPath !== "preboot") throw new Error(`a VM started ${startPath}`);
      pids.push(pid);
    } catch (error) {
      failures += 1;
      process.stderr.write(`bench: density: ${String(error)}\n`);
    }
  }
  await sleep(SETTLE_MS);
  const cpuOf = async (): Promise<number[]> => Promise.all(pids.map(cpuMs));
  const [before, daemonCpu] = [await cpuOf(), await cpuMs(daemon)];
  await sleep(IDLE_MS);
  const idle = (await cpuOf()).map((ms, at) => ((ms - (before[at] ?? Number.NaN)) / IDLE_MS) * 100);
  const daemonIdle = (((await cpuMs(daemon)) - daemonCpu) / IDLE_MS) * 100;
  const pss = await Promise.all(pids.map((pid) => readMib(`/proc/${pid}/smaps_rollup`, "Pss")));
  const details = {
    VMs: pids.length,
    "PSS of all, MiB": Math.round(pss.reduce((sum, one) => sum + one, 0)),
    "daemon's RSS, MiB": Math.round(await readMib(`/proc/${daemon}/status`, "VmRSS")),
    "daemon's RSS before, MiB": Math.round(daemonBefore),
    "idle CPU of a VM, % of a core, p50": percentile(idle, 0.5) ?? Number.NaN,
    "idle CPU of a VM, % of a core, p99": percentile(idle, 0.99) ?? Number.NaN,
    "daemon's CPU, % of a core": Math.round(daemonIdle * 100) / 100,
  };
  return compare({ name: "density", unit: "MiB", ours: { ms: pss, failures }, theirs: {}, details });
};
