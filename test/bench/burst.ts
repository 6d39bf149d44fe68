import { availableParallelism } from "node:os";
import { familyCpuMs } from "./cpu.ts";
import { type BenchHome, IMAGE, openHome } from "./home.ts";
import { compare, type Figure, percentile, type Samples, timed } from "./measure.ts";

const BURST = 50;
const SINGLES = 10;
const RUN = ["run", "--rm", IMAGE, "--", "busybox", "echo", "hi"];

/** The CPU time of everything that a run takes: its command, the daemon and the VMM, once all but the daemon have ended. */
const withCpu = async <Result>(pid: number, work: () => Promise<Result>): Promise<{ result: Result; cpuMs: number }> => {
  const now = async (): Promise<number> => (await familyCpuMs(pid)) + (await familyCpuMs(process.pid));
  const before = await now();
  const result = await work();
  return { result, cpuMs: (await now()) - before };
};

const runOnce = (home: BenchHome): Promise<number> =>
  timed(async () => {
    const said = await home.command(...RUN);
    if (said !== "hi\n") throw new Error(`a run said ${JSON.stringify(said)}`);
  });

/** All at once; a run that throws counts as a failure. */
const burst = async (home: BenchHome): Promise<Samples> => {
  const ends = await Promise.allSettled(Array.from({ length: BURST }, () => runOnce(home)));
  for (const end of ends) if (end.status === "rejected") process.stderr.write(`bench: burst.preboot: ${String(end.reason)}\n`);
  const ms = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
  return { ms, failures: BURST - ms.length };
};

/**
 * Fifty `kiln run --rm` at once, each a process of its own as from a shell, of an image that has been booted. What the
 * machine has to compute for one of them, measured by itself, times fifty, on all cores: no order of work is faster.
 */
export const benchBurst = async (): Promise<Figure> => {
  await using home = await openHome();
  const { kiln } = home;
  await kiln.operations.result(await kiln.kernels.warm());
  const { pid } = await kiln.daemon.status();
  await runOnce(home);
  const single = await withCpu(pid, async () => {
    const ms: number[] = [];
    for (let run = 0; run < SINGLES; run += 1) ms.push(await runOnce(home));
    return ms;
  });
  const singleCpuMs = single.cpuMs / SINGLES;
  let wallMs = 0;
  const all = await withCpu(pid, async () => {
    let samples: Samples = { ms: [], failures: BURST };
    wallMs = await timed(async () => (samples = await burst(home)));
    return samples;
  });
  const cores = availableParallelism();
  const leastMs = (BURST * singleCpuMs) / cores;
  const { ms } = all.result;
  const details = {
    "runs at once": BURST,
    "wall ms": Math.round(wallMs),
    "a single run": percentile(single.result, 0.5) ?? Number.NaN,
    "CPU ms of a single run": Math.round(singleCpuMs),
    "CPU ms of one in the burst": Math.round(all.cpuMs / BURST),
    "wall over the CPU time on these cores": round(wallMs / leastMs),
    "CPU time over that of as many single runs": round(all.cpuMs / (BURST * singleCpuMs)),
    "share of the cores that was Kiln's": round(all.cpuMs / (wallMs * cores)),
    "p99 over p50": round((percentile(ms, 0.99) ?? Number.NaN) / (percentile(ms, 0.5) ?? Number.NaN)),
  };
  return compare({
    ...{ name: "burst.preboot", ours: all.result, theirs: {}, details },
    goal: { field: "wall over the CPU time on these cores", max: 1.3 },
  });
};

const round = (value: number): number => Math.round(value * 100) / 100;
