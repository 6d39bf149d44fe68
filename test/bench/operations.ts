import { join } from "node:path";
import type { CreateVmRequest, VmId } from "@kiln/protocol";
import { Kiln } from "@kiln/sdk";
import { socketPathOf, UnixTransport } from "@kiln/sdk/node";
import { adoptVms } from "../../packages/daemon/src/operations/adopt-vms.ts";
import { createFakeCore } from "../../packages/daemon/src/operations/testing/fake-core.ts";
import { Database, declareWrite } from "../../packages/daemon/src/store/database.ts";
import { TestHome } from "../e2e/home.ts";
import { cpuMs } from "./cpu.ts";
import { compare, type Figure, percentile, type Samples, timed } from "./measure.ts";

const { signal } = new AbortController();
const CONCURRENCY = [1, 10, 100] as const;
const CREATES = 300;
const LISTED = 10_000;
const ADOPTED = 50;
const [COPY, REMOVE_COPIES] = [declareWrite("bench.copy"), declareWrite("bench.remove")];

const round = (value: number): number => Math.round(value * 100) / 100;

const withDaemon = async <Result>(run: (kiln: Kiln, home: TestHome) => Promise<Result>): Promise<Result> => {
  await using home = await TestHome.create("", { KILN_DRIVER: "fake", KILN_DISK_BYTES: String(2 ** 52) });
  await home.ok("daemon", "start");
  using kiln = new Kiln(new UnixTransport({ socketPath: socketPathOf(home.path) }));
  return await run(kiln, home);
};

/** What a create takes by itself, in the daemon: its phases without waiting for images, kernels or a boot, all of which are there. */
export const benchCreateReserve = async (): Promise<Figure> =>
  withDaemon(async (kiln, home) => {
    const pid = await home.daemonPid();
    const request: CreateVmRequest = { image: "deb:busybox-static", command: ["true"] };
    await kiln.operations.result(await kiln.vms.create(request, { signal }), { signal });
    const samples = new Map<number, Creates>();
    const before = await cpuMs(pid);
    for (const concurrency of CONCURRENCY) samples.set(concurrency, await createMany(kiln, request, concurrency));
    const worst = samples.get(100) ?? { ms: [], answeredMs: [], failures: 1 };
    const details = Object.fromEntries([
      ...[...samples].flatMap(([concurrency, { ms, answeredMs }]): [string, number][] => [
        [`p50 at ${concurrency}`, percentile(ms, 0.5) ?? NaN],
        [`p99 at ${concurrency}`, percentile(ms, 0.99) ?? NaN],
        [`p99 at ${concurrency} until its end was answered`, percentile(answeredMs, 0.99) ?? NaN],
      ]),
      ["daemon's CPU ms per create", round(((await cpuMs(pid)) - before) / (CREATES * CONCURRENCY.length))],
    ]);
    return compare({ name: "create.reserve", ours: worst, theirs: {}, details, goal: { field: "p99 at 100", max: 50 } });
  });

interface Creates extends Samples {
  /** From the request for the VM to the answer that it is there, on both sides of the socket. */
  readonly answeredMs: readonly number[];
}

const createMany = async (kiln: Kiln, request: CreateVmRequest, concurrency: number): Promise<Creates> => {
  const ms: number[] = [];
  const answeredMs: number[] = [];
  let failures = 0;
  for (let made = 0; made < CREATES; made += concurrency) {
    const one = async (): Promise<void> => {
      const began = performance.now();
      const ended = await kiln.operations.wait((await kiln.vms.create(request, { signal })).id, { signal });
      answeredMs.push(performance.now() - began);
      if (ended.state === "succeeded") ms.push(ended.phases.reduce((sum, phase) => sum + phase.ms, 0));
      else failures += 1;
    };
    await Promise.all(Array.from({ length: concurrency }, one));
  }
  return { ms, answeredMs, failures };
};

/** From the request for all VMs to the last byte of the answer. */
export const benchPs = async (): Promise<Figure> =>
  withDaemon(async (kiln, home) => {
    const operation = await kiln.operations.result(await kiln.vms.create({ image: "deb:busybox-static" }, { signal }), { signal });
    await home.ok("daemon", "stop");
    multiply(join(home.path, "kiln.db"), operation.result as VmId);
    await home.ok("daemon", "start");
    const transport = new UnixTransport({ socketPath: socketPathOf(home.path) });
    const ms: number[] = [];
    let bytes = 0;
    const pid = await home.daemonPid();
    let before = 0;
    for (let run = 0; run < 50; run += 1) {
      if (run === 1) before = await cpuMs(pid);
      ms.push(
        await timed(async () => {
          bytes = 0;
          const answer = await transport.request("GET", "/v1/vms", { headers: {}, signal });
          for await (const chunk of answer.body) bytes += chunk.length;
        }),
      );
    }
    transport.close();
    const cpu = (await cpuMs(pid)) - before;
    await home.ok("daemon", "stop");
    removeCopies(join(home.path, "kiln.db"), operation.result as VmId);
    const details = {
      records: LISTED,
      "answer MB": Math.round(bytes / 1e5) / 10,
      "first, from the disk": Math.round(ms[0] ?? 0),
      p99: percentile(ms.slice(1), 0.99) ?? NaN,
      "daemon's CPU ms per list": round(cpu / (ms.length - 1)),
    };
    return compare({ name: "ps.10000", ours: { ms: ms.slice(1), failures: 0 }, theirs: {}, details, goal: { field: "p99", max: 50 } });
  });

/** Ten thousand records as a daemon would have written them. */
const multiply = (path: string, id: VmId): void => {
  using database = new Database(path);
  const record = JSON.parse(String(database.get("SELECT record FROM vms WHERE id = ?", id)?.["record"])) as Record<string, unknown>;
  database.write(COPY, (run) => {
    for (let slot = 2; slot <= LISTED; slot += 1) {
      const copy = { ...record, id: slot.toString(16).padStart(12, "0"), name: `vm-${slot}`, slot };
      run(
        "INSERT INTO vms (id, name, slot, state, memory_bytes, cpus, disk_bytes, rootfs_key, kernel_key, record) SELECT ?, ?, ?, state, memory_bytes, cpus, disk_bytes, rootfs_key, kernel_key, ? FROM vms WHERE id = ?",
        ...[copy.id, copy.name, slot, JSON.stringify(copy), id],
      );
    }
  });
};

/** They have no files; the home's end would delete each by itself. */
const removeCopies = (path: string, id: VmId): void => {
  using database = new Database(path);
  database.write(REMOVE_COPIES, (run) => run("DELETE FROM vms WHERE id <> ?", id));
};

/** A daemon's start beside fifty VMs that run: until all are its own. */
export const benchAdopt = async (): Promise<Figure> => {
  const ms: number[] = [];
  for (let run = 0; run < 5; run += 1) {
    await using fake = await createFakeCore();
    const begun = Array.from({ length: ADOPTED }, (_, index) => fake.create({ name: `vm-${index}`, start: true }));
    await Promise.all(begun.map(fake.ended));
    const next = fake.restart();
    ms.push(await timed(() => adoptVms(next)));
    if (next.running.list().length !== ADOPTED) throw new Error(`${next.running.list().length} of ${ADOPTED} were adopted`);
  }
  const details = { VMs: ADOPTED, p99: percentile(ms, 0.99) ?? NaN };
  return compare({ name: "restart.adopt", ours: { ms, failures: 0 }, theirs: {}, details, goal: { field: "p99", max: 500 } });
};
