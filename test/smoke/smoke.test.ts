import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { replaceTable } from "./page.ts";
import { printable, renderEnded, renderList, renderTotals, sumUp } from "./report.ts";
import { type Ended, type Host, runScenarios } from "./runner.ts";
import { global, isolated, type Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";
import { parseSelection, UsageError } from "./select.ts";

const nothing = async (): Promise<void> => Promise.resolve();
const never = new AbortController().signal;

interface Script {
  readonly run?: (signal: AbortSignal) => Promise<void>;
  readonly close?: () => Promise<void>;
}

/** A house in which scenarios do what a script says; it knows which ran beside which. */
class ScriptedHost implements Host {
  readonly order: string[] = [];
  readonly running = new Set<string>();
  most = 0;
  readonly #scripts: Readonly<Record<string, Script>>;

  constructor(scripts: Readonly<Record<string, Script>> = {}) {
    this.#scripts = scripts;
  }

  async open(scenario: Scenario, signal: AbortSignal) {
    const { run = nothing, close = nothing } = this.#scripts[scenario.name] ?? {};
    if (scenario.kind === "global") assert.deepEqual([...this.running], [], `${scenario.name} runs alone`);
    for (const name of this.running) assert.ok(!name.startsWith("global"), `${name} runs alone`);
    this.running.add(scenario.name);
    this.most = Math.max(this.most, this.running.size);
    this.order.push(scenario.name);
    return Promise.resolve({
      run: async () => {
        await sleep(1);
        await run(signal);
      },
      explain: async (failure: unknown) => `${String(failure)}\nconsole of ${scenario.name}`,
      transcript: () => `what ${scenario.name} did`,
      close: async () => {
        await close();
        this.running.delete(scenario.name);
      },
    });
  }
}

const plain = (count: number): Scenario[] => Array.from({ length: count }, (_, index) => isolated(`isolated-${index}`, "nothing", nothing));
const globals = (count: number): Scenario[] => Array.from({ length: count }, (_, index) => global(`global-${index}`, "nothing", nothing));

const runWith = async (scenarios: readonly Scenario[], host: Host, options: { jobs?: number; signal?: AbortSignal } = {}) => {
  const shown: Ended[] = [];
  const { jobs = 4, signal = never } = options;
  const ended = await runScenarios(scenarios, { host, jobs, signal, onEnd: (one) => shown.push(one), graceMs: 30 });
  assert.deepEqual(shown, ended);
  return ended;
};

describe("I41 the order of scenarios", () => {
  test("I41 isolated ones run side by side, as many as asked for and never more; global ones run alone behind them", async () => {
    const host = new ScriptedHost();
    const ended = await runWith([...globals(2), ...plain(9)], host, { jobs: 3 });
    assert.equal(host.most, 3);
    assert.equal(ended.length, 11);
    assert.ok(ended.every(({ state }) => state === "passed"));
    assert.deepEqual(host.order.slice(-2), ["global-0", "global-1"]);
    assert.deepEqual(host.order.slice(0, 3), ["isolated-0", "isolated-1", "isolated-2"]);
  });

  test("the scripted house notices a global one beside another", async () => {
    const host = new ScriptedHost();
    await host.open(isolated("isolated-0", "", nothing), never);
    await assert.rejects(host.open(global("global-0", "", nothing), never), /runs alone/);
  });

  test("with one job one runs at a time", async () => {
    const host = new ScriptedHost();
    await runWith(plain(4), host, { jobs: 1 });
    assert.equal(host.most, 1);
  });

  test("I41 four that wait for each other end only where four run at once", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let arrived = 0;
    const meet = async (): Promise<void> => {
      arrived += 1;
      if (arrived === 4) resolve();
      await promise;
    };
    const scripts = Object.fromEntries(plain(4).map(({ name }) => [name, { run: meet }]));
    const ended = await runWith(plain(4), new ScriptedHost(scripts), { jobs: 4 });
    assert.ok(ended.every(({ state }) => state === "passed"));
  });

  test("after an interrupt none begins, and those under way are told", async () => {
    const interrupt = new AbortController();
    const run = async (signal: AbortSignal): Promise<void> => {
      interrupt.abort(new Error("Ctrl-C"));
      await sleep(5_000, undefined, { signal });
    };
    const host = new ScriptedHost({ "isolated-0": { run } });
    const ended = await runWith(plain(3), host, { jobs: 1, signal: interrupt.signal });
    assert.deepEqual(
      ended.map(({ state }) => state),
      ["failed"],
    );
  });
});

describe("a scenario that fails", () => {
  test("is reported whole, with what was gathered; the others go on", async () => {
    const host = new ScriptedHost({ "isolated-1": { run: () => Promise.reject(new Error("seven is not eight")) } });
    const ended = await runWith(plain(3), host);
    const failed = ended.filter(({ state }) => state === "failed");
    assert.equal(failed.length, 1);
    const text = renderEnded(failed[0] ?? assert.fail(), { verbose: false });
    assert.match(text, /^FAIL isolated-1 \(isolated, \d+ ms\)\n {4}Error: seven is not eight\n {4}console of isolated-1\n$/);
  });

  test("fails also where its place cannot be made, or is not clean at its end", async () => {
    const dirty = new ScriptedHost({ "isolated-0": { close: () => Promise.reject(new Error("a VM is left")) } });
    const [left] = await runWith(plain(1), dirty);
    assert.equal(left?.state, "failed");
    assert.match(left?.report ?? "", /at its end: .*a VM is left/);
    const [closed] = await runWith(plain(1), { open: () => Promise.reject(new Error("no room")) });
    assert.match(closed?.report ?? "", /no room/);
  });

  test("is stopped when its time is over, and given up where it does not stop", async () => {
    const slow = [{ ...isolated("isolated-0", "", nothing), deadlineMs: 20 }];
    const obeys = (signal: AbortSignal): Promise<void> => sleep(5_000, undefined, { signal });
    const [first] = await runWith(slow, new ScriptedHost({ "isolated-0": { run: obeys } }));
    assert.match(first?.report ?? "", /not done after 20 ms/);
    const stuck = new Promise<void>(() => undefined);
    const [second] = await runWith(slow, new ScriptedHost({ "isolated-0": { run: () => stuck } }));
    assert.match(second?.report ?? "", /not done after 20 ms/);
  });

  test("its guest's words steer no terminal", () => {
    assert.equal(printable("a\u001b[2Jb\r\n\tc\u009b1m"), "a\\x1b[2Jb\\x0d\n\tc\\x9b1m");
  });
});

test("one that passes is a line, with what it did where that is asked for; one that cannot run says why", async () => {
  const skipped: Scenario = { ...isolated("isolated-1", "", nothing), skip: "needs root" };
  const ended = await runWith([...plain(1), skipped], new ScriptedHost());
  const find = (wanted: Ended["state"]): Ended => ended.find(({ state }) => state === wanted) ?? assert.fail(wanted);
  assert.match(renderEnded(find("passed"), { verbose: false }), /^ok {3}isolated-0 \(isolated, \d+ ms\)\n$/);
  assert.match(renderEnded(find("passed"), { verbose: true }), /\n {4}what isolated-0 did\n$/);
  assert.match(renderEnded(find("skipped"), { verbose: true }), /^skip isolated-1 .*: needs root\n$/);
  const machine = { cpus: 2, memoryBytes: 2 ** 30, driver: "qemu 1 tcg", node: "v1" };
  const totals = sumUp(ended, { wallMs: 1500, jobs: 4, left: ["VMs are left in a home: web"], machine });
  assert.match(
    renderTotals(totals),
    /^FAIL VMs are left in a home: web\n1 passed, 0 failed, 1 skipped\nwall 1\.5 s, .*4 at once\non 2 CPUs, 1 GiB, qemu 1 tcg/,
  );
});

describe("what is asked for", () => {
  test("names choose, numbers are checked, and a name that is none is told with the list", () => {
    const chosen = parseSelection(["--scenario", "isolated-1", "--scenario", "isolated-0", "--jobs", "3", "--json"], plain(3));
    assert.deepEqual(
      [chosen.what, chosen.jobs, chosen.json, chosen.scenarios.map(({ name }) => name)],
      [...["run", 3, true, ["isolated-0", "isolated-1"]]],
    );
    assert.throws(
      () => parseSelection(["--scenario", "isolated-9"], plain(2)),
      (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /no scenario isolated-9; there are:\n {2}isolated-0\n {2}isolated-1$/);
        return true;
      },
    );
    for (const argv of [["--jobs", "0"], ["--jobs", "x"], ["--jobs", "65"], ["--no-such"], ["word"]])
      assert.throws(() => parseSelection(argv, plain(1)), UsageError);
  });

  test("there are at least thirty scenarios of names and sentences of their own, and both kinds", () => {
    assert.ok(SCENARIOS.length >= 30, `${SCENARIOS.length}`);
    for (const field of ["name", "shows"] as const) assert.equal(new Set(SCENARIOS.map((one) => one[field])).size, SCENARIOS.length);
    // a VM's name begins with its scenario's, and is a hostname
    for (const { name } of SCENARIOS) assert.match(name, /^[a-z][a-z-]{0,24}[a-z]$/);
    for (const kind of ["isolated", "global"]) assert.ok(SCENARIOS.some((one) => one.kind === kind));
  });

  test("docs/smoke.md has the list as it is", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/smoke.md"), "utf8");
    assert.equal(replaceTable(page, renderList(SCENARIOS)), page, "run npm run smoke -- --list --write");
    assert.throws(() => replaceTable("a page", ""), /no <!-- scenarios -->/);
  });
});
