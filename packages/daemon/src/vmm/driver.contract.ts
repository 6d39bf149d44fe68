import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { KilnError } from "@kiln/protocol";
import type { AgentSession } from "../vms/agent.port.ts";
import type { Driver, SavedVmm, Vmm, VmmEnd, VmmSpec } from "../vms/driver.port.ts";

/** What one run of the suite works with. Disposing ends whatever is left. */
export interface DriverStage extends AsyncDisposable {
  readonly driver: Driver;
  /** Another driver of the same kind in the same world: that of the next daemon. */
  readonly next: () => Driver;
  /** A spec that boots, with a directory of its own. */
  readonly spec: (id: string) => Promise<VmmSpec>;
  /** Speaks HELLO over a fresh channel. */
  readonly connect: (vmm: Vmm, signal: AbortSignal) => Promise<AgentSession>;
  /** What still runs or listens of VMs below `directory`, in words. */
  readonly remains: (directory: string) => Promise<readonly string[]>;
  /** Ends the VMM as a stranger would. */
  readonly murder: (vmm: Vmm) => Promise<void>;
  /** A guest of the shape of `spec`, saved once its agent had answered. */
  readonly save: (signal: AbortSignal) => Promise<SavedVmm & AsyncDisposable>;
  /** Aborts that come in the middle of a boot. */
  readonly abortAfterMs: readonly number[];
}

/** The suite that every driver passes. `open` makes a fresh stage; `timeoutMs` bounds each test. */
export const driverContract = (name: string, open: () => Promise<DriverStage>, timeoutMs: number): void => {
  const contract = (title: string, body: (stage: DriverStage, signal: AbortSignal) => Promise<void>): void => {
    test(title, { timeout: timeoutMs * 2 }, async () => {
      await using stage = await open();
      await body(stage, AbortSignal.timeout(timeoutMs));
    });
  };
  describe(`the ${name} driver`, () => {
    describeLife(contract);
    describeEnds(contract);
    describeAdoption(contract);
    describeCrowds(contract);
    describeSnapshots(contract);
  });
};

type Contract = (title: string, body: (stage: DriverStage, signal: AbortSignal) => Promise<void>) => void;

const describeLife = (contract: Contract): void => {
  contract("says what it can do as data, and which accel it would use", async ({ driver, spec }, signal) => {
    const report = await driver.probe((await spec("probe")).kernel, { signal });
    assert.equal(report.name, driver.name);
    assert.ok(report.accel !== null && driver.capabilities.accels.includes(report.accel), JSON.stringify(report));
    assert.notEqual(report.reason, "");
  });

  contract("boots a guest whose agent answers, twice in a row over two channels", async ({ driver, spec, connect }, signal) => {
    const vmm = await driver.boot(await spec("one"), { signal });
    const first = await connect(vmm, signal);
    assert.equal(first.hello.sessions, 1);
    const second = await connect(vmm, signal);
    assert.equal(second.hello.sessions, 2);
    await first.closed;
    await second.ping({ signal });
    assert.deepEqual(await vmm.kill(), undefined);
  });

  contract("pauses and resumes", async ({ driver, spec, connect }, signal) => {
    const vmm = await driver.boot(await spec("one"), { signal });
    const session = await connect(vmm, signal);
    await vmm.pause({ signal });
    await vmm.pause({ signal });
    await vmm.resume({ signal });
    await vmm.resume({ signal });
    await session.ping({ signal });
    await vmm.kill();
  });

  contract("refuses to be used once it has ended, and has no console then", async ({ driver, spec }, signal) => {
    const vmm = await driver.boot(await spec("one"), { signal });
    await vmm.kill();
    await assert.rejects(vmm.openAgentChannel({ signal }), isVmmFailed);
    await assert.rejects(vmm.pause({ signal }), isVmmFailed);
    assert.equal((await vmm.console({ signal })).byteLength, 0);
  });
};

const describeEnds = (contract: Contract): void => {
  contract("kill is idempotent, and leaves no process and no socket", async ({ driver, spec, remains }, signal) => {
    const one = await spec("one");
    const vmm = await driver.boot(one, { signal });
    await Promise.all([vmm.kill(), vmm.kill()]);
    await vmm.kill();
    assert.deepEqual(await vmm.ended, { reason: "killed" });
    assert.deepEqual(await remains(one.directory), []);
  });

  contract("a guest that powers off ends its VMM with that reason", async ({ driver, spec, connect, remains }, signal) => {
    const one = await spec("one");
    const vmm = await driver.boot(one, { signal });
    const session = await connect(vmm, signal);
    await session.powerOff(0, { signal });
    assert.deepEqual(await vmm.ended, { reason: "guest-shutdown" });
    await vmm.kill();
    assert.deepEqual(await vmm.ended, { reason: "guest-shutdown" });
    assert.deepEqual(await remains(one.directory), []);
  });

  contract("I20 a VMM that a stranger ends has died, with what is known of it", async ({ driver, spec, murder, remains }, signal) => {
    const one = await spec("one");
    const vmm = await driver.boot(one, { signal });
    await murder(vmm);
    const end: VmmEnd = await vmm.ended;
    assert.equal(end.reason, "vmm-died");
    assert.ok(end.reason === "vmm-died" && end.detail !== "");
    assert.deepEqual(await remains(one.directory), []);
  });

  contract("I19 a boot that is aborted leaves no process and no socket", async ({ driver, spec, remains, abortAfterMs }) => {
    for (const ms of abortAfterMs) {
      const one = await spec(`abort-${ms}`);
      const reason = new Error(`aborted after ${ms} ms`);
      const abort = new AbortController();
      setTimeout(() => abort.abort(reason), ms);
      const outcome = await driver.boot(one, { signal: abort.signal }).then(
        (vmm) => vmm.kill().then(() => "booted"),
        (error: unknown) => error,
      );
      assert.ok(outcome === reason || outcome === "booted", String(outcome));
      assert.deepEqual(await remains(one.directory), []);
    }
  });

  contract("I19 a boot with a signal that has aborted starts nothing", async ({ driver, spec, remains }) => {
    const one = await spec("one");
    await assert.rejects(driver.boot(one, { signal: AbortSignal.abort(new Error("too late")) }), /too late/);
    assert.deepEqual(await remains(one.directory), []);
  });
};

const describeAdoption = (contract: Contract): void => {
  contract("I36 the next driver adopts what runs, with the same identity and the same guest", async (stage, signal) => {
    const vmm = await stage.driver.boot(await stage.spec("one"), { signal });
    const before = await stage.connect(vmm, signal);
    await vmm.detach();
    await before.closed;
    const adopted = await stage.next().adopt(vmm.ref, { signal });
    assert.ok(adopted !== null);
    assert.deepEqual(adopted.ref, vmm.ref);
    const session = await stage.connect(adopted, signal);
    assert.equal(session.hello.sessions, before.hello.sessions + 1);
    await session.powerOff(0, { signal });
    assert.deepEqual(await adopted.ended, { reason: "guest-shutdown" });
    assert.deepEqual(await stage.remains(vmm.ref.directory), []);
  });

  contract("kills what it has adopted", async ({ driver, next, spec, remains }, signal) => {
    const vmm = await driver.boot(await spec("one"), { signal });
    await vmm.detach();
    const adopted = await next().adopt(vmm.ref, { signal });
    await adopted?.kill();
    assert.deepEqual(await adopted?.ended, { reason: "killed" });
    assert.deepEqual(await remains(vmm.ref.directory), []);
  });

  contract(
    "I37 there is nothing to adopt where the process is gone, or another has its pid",
    async ({ driver, next, spec, remains }, signal) => {
      const vmm = await driver.boot(await spec("one"), { signal });
      const other = await driver.boot(await spec("two"), { signal });
      await vmm.kill();
      assert.equal(await next().adopt(vmm.ref, { signal }), null);
      const recycled = { ...vmm.ref, identity: { ...vmm.ref.identity, pid: other.ref.identity.pid } };
      assert.equal(await next().adopt(recycled, { signal }), null);
      assert.deepEqual(await remains(vmm.ref.directory), []);
      assert.notDeepEqual(await remains(other.ref.directory), []);
      await other.kill();
    },
  );

  contract("I35 ends the strays of one directory and no others", async ({ driver, next, spec, remains }, signal) => {
    const [lost, kept] = [await driver.boot(await spec("lost"), { signal }), await driver.boot(await spec("lost-not"), { signal })];
    await lost.detach();
    assert.equal(await next().endStrays(lost.ref.directory), 1);
    assert.equal(await next().endStrays(lost.ref.directory), 0);
    assert.deepEqual(await remains(lost.ref.directory), []);
    assert.notDeepEqual(await remains(kept.ref.directory), []);
    await kept.kill();
  });
};

const describeCrowds = (contract: Contract): void => {
  contract("I18 four VMs boot in parallel and all of them answer", async ({ driver, spec, connect }, signal) => {
    const vmms = await Promise.all(["a", "b", "c", "d"].map(async (id) => driver.boot(await spec(id), { signal })));
    assert.equal(new Set(vmms.map((vmm) => vmm.ref.identity.pid)).size, vmms.length);
    const sessions = await Promise.all(vmms.map((vmm) => connect(vmm, signal)));
    for (const session of sessions) assert.equal(session.hello.sessions, 1);
    await Promise.all(vmms.map((vmm) => vmm.kill()));
  });
};

export const isVmmFailed = (error: unknown): boolean => error instanceof KilnError && error.code === "VMM_FAILED";

const describeSnapshots = (contract: Contract): void => {
  contract("names what a snapshot depends on: equal shapes have one key, other shapes have another", async ({ driver, spec }, signal) => {
    const shape = await spec("key");
    const key = await driver.snapshotKey(shape, { signal });
    assert.match(key, /^[0-9a-f]{64}$/);
    assert.equal(await driver.snapshotKey({ ...shape, kernel: { ...shape.kernel } }, { signal }), key);
    assert.notEqual(await driver.snapshotKey({ ...shape, cpus: shape.cpus + 1 }, { signal }), key);
    assert.notEqual(await driver.snapshotKey({ ...shape, memoryBytes: 2 * shape.memoryBytes }, { signal }), key);
  });

  contract("I29 two VMs start from one saved guest, each with its own disks and one session of its epoch", async (stage, signal) => {
    await using saved = await stage.save(signal);
    const vmms = await Promise.all(["one", "two"].map(async (id) => stage.driver.restore(await stage.spec(id), saved, { signal })));
    for (const vmm of vmms) {
      const session = await stage.connect(vmm, signal);
      assert.equal(session.hello.sessions, 1);
      assert.equal(session.hello.ready, false);
      await session.ping({ signal });
    }
    await Promise.all(vmms.map((vmm) => vmm.kill()));
    for (const vmm of vmms) assert.deepEqual(await stage.remains(vmm.ref.directory), []);
  });

  contract("a guest that runs without its disks gets them while it is paused, at their real size", async (stage, signal) => {
    await using saved = await stage.save(signal);
    const { disks, ...spec } = await stage.spec("open");
    const vmm = await stage.driver.restoreOpen({ ...spec, disks: [] }, saved, { signal });
    const session = await stage.connect(vmm, signal);
    await vmm.pause({ signal });
    await vmm.attach(disks, { signal });
    await vmm.resume({ signal });
    await session.ping({ signal });
    await vmm.kill();
    assert.deepEqual(await stage.remains(vmm.ref.directory), []);
  });

  contract("I34 a state that is none is refused with words, and nothing is left", async (stage, signal) => {
    await using saved = await stage.save(signal);
    await writeFile(saved.state, "not a state");
    const spec = await stage.spec("broken");
    await assert.rejects(stage.driver.restore(spec, saved, { signal }), { code: "VMM_FAILED", message: /could not be restored: .+/ });
    assert.deepEqual(await stage.remains(spec.directory), []);
  });

  contract("I19 a restore that is aborted leaves no process and no socket", async (stage, signal) => {
    await using saved = await stage.save(signal);
    for (const [index, ms] of stage.abortAfterMs.entries()) {
      const spec = await stage.spec(`aborted-${index}`);
      const abort = new AbortController();
      const restored = stage.driver.restore(spec, saved, { signal: abort.signal });
      const timer = setTimeout(() => abort.abort(new Error("left")), ms);
      const outcome = await restored.catch((error: unknown) => error);
      clearTimeout(timer);
      if (outcome instanceof Error) assert.match(outcome.message, /left/);
      else await (outcome as Vmm).kill();
      assert.deepEqual(await stage.remains(spec.directory), []);
    }
  });
};
