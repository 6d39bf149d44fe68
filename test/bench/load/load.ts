import { availableParallelism } from "node:os";
import type { CreateVmRequest } from "@kiln/protocol";
import type { Kiln } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { TestHome } from "../../e2e/home.ts";
import { familyCpuMs } from "../cpu.ts";
import { compare, type Figure, percentile, timed } from "../measure.ts";
import { pssMib } from "../proc-memory.ts";
import { type ClientReport, coldBoots, failuresByType, runsOf, type Split, split } from "./arithmetic.ts";
import { Crowd } from "./crowd.ts";
import { MemoryWatch } from "./memory.ts";

type DriverName = "qemu" | "fake";

const IMAGE = "deb:busybox-static";
const MEMORY_BYTES = 256 * 2 ** 20;
const COLD = 64;
const ADMITTED = 500;
/** VMs that have room at once; the others wait. */
const ROOM = 8;
const SINGLES = 10;
/** Records of disks that nothing is written to. */
const DISK_BYTES = 2 ** 52;

const commandOf = (driver: DriverName): string[] => (driver === "fake" ? ["echo", "hi"] : ["busybox", "echo", "hi"]);

const requestOf = (driver: DriverName): CreateVmRequest => ({ image: IMAGE, command: commandOf(driver), memoryBytes: MEMORY_BYTES });

const say = (words: string): void => void process.stderr.write(`bench: ${words}\n`);

/** A home of its own with a daemon that has made nothing yet. */
class LoadHome implements AsyncDisposable {
  readonly #home: TestHome;
  readonly kiln: Kiln;
  readonly pid: number;
  readonly driver: DriverName;

  private constructor(home: TestHome, { pid, driver }: { pid: number; driver: DriverName }) {
    this.#home = home;
    this.kiln = connect({ home: home.path });
    this.pid = pid;
    this.driver = driver;
  }

  static async open(driver: DriverName, settings: Readonly<Record<string, string>> = {}): Promise<LoadHome> {
    const home = await TestHome.create("", { KILN_DRIVER: driver, KILN_DISK_BYTES: String(DISK_BYTES), ...settings });
    await home.ok("daemon", "start");
    return new LoadHome(home, { pid: await home.daemonPid(), driver });
  }

  gather(count: number): Promise<Crowd> {
    return Crowd.gather(count, { home: this.#home.path, request: requestOf(this.driver) });
  }

  /** Image, rootfs and kernel are there, and what VMs of the crowd's shape start from. */
  async prepare(): Promise<void> {
    await this.#home.ok("pull", IMAGE);
    if (this.driver === "qemu") await this.kiln.operations.result(await this.kiln.kernels.warm({ memoryBytes: MEMORY_BYTES }));
    await this.single();
  }

  /** One client by itself. */
  async single(): Promise<Single> {
    await using crowd = await this.gather(1);
    const before = await familyCpuMs(this.pid);
    const [report] = await crowd.go();
    if (report === undefined || report.failure !== null) throw new Error(`a single start failed: ${report?.failure}: ${report?.detail}`);
    return { ms: report.ms, cpuMs: (await familyCpuMs(this.pid)) - before + report.cpuMs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kiln[Symbol.dispose]();
    await this.#home[Symbol.asyncDispose]();
  }
}

interface Single {
  readonly ms: number;
  /** Of the client, the daemon and the VMM. */
  readonly cpuMs: number;
}

interface Run {
  readonly reports: readonly ClientReport[];
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly details: Readonly<Record<string, number>>;
}

const runCrowd = async (home: LoadHome, { name, count }: { name: string; count: number }): Promise<Run> => {
  say(`${name}: ${count} client processes come up`);
  await using crowd = await home.gather(count);
  const clients = await Promise.all(crowd.pids.map(pssMib));
  const memory = new MemoryWatch(home.kiln, home.pid);
  const before = await familyCpuMs(home.pid);
  say(`${name}: all of them ask at once, ${Math.round(crowd.readyMs / 1000)} s later`);
  let reports: readonly ClientReport[] = [];
  const wallMs = await timed(async () => (reports = await crowd.go()));
  const cpuMs = (await familyCpuMs(home.pid)) - before + reports.reduce((sum, one) => sum + one.cpuMs, 0);
  const details = {
    ...(await memory.stop()),
    "clients' PSS before they ask, MiB": Math.round(clients.reduce<number>((sum, one) => sum + (one ?? 0), 0)),
    "s until all clients stood ready": Math.round(crowd.readyMs / 1000),
  };
  return { reports, wallMs, cpuMs, details };
};

const PARTS = {
  queue: "in a queue",
  shared: "for the shared work",
  service: "in service",
  outside: "outside of its operations",
} as const satisfies Record<keyof Split, string>;
const SHARES = [0.5, 0.95, 0.99] as const;

const whereTimeWent = (reports: readonly ClientReport[]): Readonly<Record<string, number>> => {
  const splits = reports.filter(({ failure }) => failure === null).map(split);
  return Object.fromEntries(
    (["queue", "shared", "service", "outside"] as const).flatMap((part) =>
      SHARES.map((share): [string, number] => [
        `ms ${PARTS[part]}, p${share * 100}`,
        percentile(
          splits.map((one) => one[part]),
          share,
        ) ?? Number.NaN,
      ]),
    ),
  );
};

const AGAINST_ROW = "wall over as many single starts in a row";
const AGAINST_CPU = "wall over the CPU time of as many single starts on these cores";

/** `first` is what the first of a row of single starts takes, where that is not like the others. */
const describe = (
  name: string,
  run: Run,
  single: { warm: readonly Single[]; first?: Single; once?: Readonly<Record<string, number>> },
): Figure => {
  const count = run.reports.length;
  const ok = run.reports.filter(({ failure }) => failure === null);
  const warm = {
    ms:
      percentile(
        single.warm.map(({ ms }) => ms),
        0.5,
      ) ?? NaN,
    cpuMs:
      percentile(
        single.warm.map(({ cpuMs }) => cpuMs),
        0.5,
      ) ?? NaN,
  };
  const first = single.first ?? warm;
  const row = (of: keyof Single): number => first[of] + (count - 1) * warm[of];
  const cores = availableParallelism();
  const once = single.once ?? {};
  const wrong = Object.values(once).filter((times) => times !== 1).length;
  for (const [code, times] of Object.entries(failuresByType(run.reports)))
    say(`${name}: ${times} failed with ${code}, such as: ${run.reports.find(({ failure }) => failure === code)?.detail}`);
  const details = {
    clients: count,
    "of them booted cold": coldBoots(run.reports),
    "wall ms": Math.round(run.wallMs),
    "ms to the first output, p50":
      percentile(
        ok.flatMap(({ outputMs }) => outputMs ?? []),
        0.5,
      ) ?? Number.NaN,
    ...whereTimeWent(run.reports),
    [AGAINST_ROW]: round(run.wallMs / row("ms")),
    "CPU ms of a single warm start": Math.round(warm.cpuMs),
    "CPU ms of one in the crowd": Math.round(run.cpuMs / count),
    [AGAINST_CPU]: round(run.wallMs / (row("cpuMs") / cores)),
    ...Object.fromEntries(Object.entries(once).map(([kind, times]) => [`${kind} that ran`, times])),
    ...run.details,
    ...Object.fromEntries(Object.entries(failuresByType(run.reports)).map(([code, times]) => [`failed with ${code}`, times])),
  };
  const ours = { ms: ok.map(({ ms }) => ms), failures: count - ok.length + wrong };
  const theirs = {
    "a single warm start": { ms: single.warm.map(({ ms }) => ms), failures: 0 },
    ...(single.first === undefined ? {} : { "a single cold start": { ms: [first.ms], failures: 0 } }),
  };
  return compare({ name, ours, theirs, details, goal: { field: AGAINST_ROW, max: 1 } });
};

/** One by one, each with a client process of its own. */
const singles = async (home: LoadHome, name: string): Promise<readonly Single[]> => {
  say(`${name}: ${SINGLES} single starts`);
  const all: Single[] = [];
  for (let run = 0; run < SINGLES; run += 1) all.push(await home.single());
  return all;
};

/** Of an empty home, alone: what has to be made is made for one. */
const coldSingle = async (driver: DriverName, name: string): Promise<Single> => {
  say(`${name}: one client and an empty home`);
  await using home = await LoadHome.open(driver);
  return await home.single();
};

/**
 * 64 clients at once and a home in which kernel, image and rootfs are missing, beside one client and such a home, and then 63 single starts. What
 * is missing is to be made once.
 */
export const benchLoadCold = async (driver: DriverName, count = COLD): Promise<Figure> => {
  const name = `load.cold.${driver}`;
  const first = await coldSingle(driver, name);
  await using home = await LoadHome.open(driver);
  const run = await runCrowd(home, { name, count });
  const once = runsOf(await home.kiln.operations.list({ all: true }));
  return describe(name, run, { warm: await singles(home, name), first, once });
};

/** 500 clients at once where eight VMs have room: the others wait for their turn, visibly, and none longer than it takes to serve those before it. */
export const benchLoadAdmission = async (driver: DriverName, count = ADMITTED): Promise<Figure> => {
  const name = `load.admission.${driver}`;
  await using home = await LoadHome.open(driver, { KILN_MEMORY_BYTES: String(ROOM * MEMORY_BYTES) });
  await home.prepare();
  const warm = await singles(home, name);
  const run = await runCrowd(home, { name, count });
  return describe(name, run, { warm });
};

const round = (value: number): number => Math.round(value * 100) / 100;
