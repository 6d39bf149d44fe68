import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readlinkSync } from "node:fs";
import { describe, it } from "node:test";
import { identifyProcess, processState, signalProcess, type ProcessIdentity } from "./index.ts";
import { parseStat } from "./process-identity.ts";

/** A child that sleeps, and its identity. */
async function sleeper(): Promise<AsyncDisposable & { readonly identity: ProcessIdentity; end(): Promise<void> }> {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const exit = once(child, "exit");
  const identity = child.pid === undefined ? null : await identifyProcess(child.pid);
  assert.ok(identity !== null);
  const end = async () => {
    child.kill("SIGKILL");
    await exit;
  };
  return { identity, end, [Symbol.asyncDispose]: end };
}

describe("I37 a process", () => {
  it("is boot id, pid namespace, pid and start time", async () => {
    await using child = await sleeper();
    const { bootId, pidNamespace, pid, startTime } = child.identity;
    assert.equal(bootId, readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
    assert.equal(pidNamespace, readlinkSync(`/proc/${pid}/ns/pid`));
    assert.match(startTime, /^[0-9]+$/);
    assert.deepEqual(await identifyProcess(pid), child.identity);
    assert.equal(await processState(child.identity), "alive");
  });

  it("is dead after its end, and so is one of an earlier boot", async () => {
    await using child = await sleeper();
    assert.equal(await processState({ ...child.identity, bootId: "another boot" }), "dead");
    await child.end();
    assert.equal(await processState(child.identity), "dead");
    assert.equal(await identifyProcess(child.identity.pid), null);
    assert.equal(await signalProcess(child.identity, "SIGTERM"), false);
  });

  it("that got a used pid is another one, and is not signalled", async () => {
    await using child = await sleeper();
    const former = { ...child.identity, startTime: String(Number(child.identity.startTime) - 1) };
    assert.equal(await processState(former), "dead");
    assert.equal(await signalProcess(former, "SIGKILL"), false);
    assert.equal(await processState(child.identity), "alive");
  });

  it("of another pid namespace is unknown, never dead, and not signalled", async () => {
    await using child = await sleeper();
    const elsewhere = { ...child.identity, pidNamespace: "pid:[1]" };
    assert.equal(await processState(elsewhere), "unknown");
    assert.equal(await signalProcess(elsewhere, "SIGKILL"), false);
    assert.equal(await processState(child.identity), "alive");
  });

  it("that is alive gets the signal", async () => {
    await using child = await sleeper();
    assert.equal(await signalProcess(child.identity, "SIGTERM"), true);
    await child.end();
    assert.equal(await processState(child.identity), "dead");
  });

  it("that is a zombie is dead", async () => {
    // The shell's child ends while the shell, which has become `sleep`, never collects it.
    const parent = spawn("sh", ["-c", "sleep 0.05 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      const said: unknown[] = await once(parent.stdout, "data");
      const identity = await identifyProcess(Number(String(said[0])));
      assert.ok(identity !== null);
      while (stateLetter(identity.pid) !== "Z") await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(await processState(identity), "dead");
      assert.equal(await identifyProcess(identity.pid), null);
    } finally {
      parent.kill("SIGKILL");
      await once(parent, "exit");
    }
  });

  it("may have any command name: the fields are counted after the last parenthesis", () => {
    const tail = `S 1 ${Array.from({ length: 17 }, (_, n) => n).join(" ")} 4242 99 0\n`;
    for (const name of ["node", "a b", ") R 1 (", "((", "x) Z 5"]) {
      assert.deepEqual(parseStat(`17 (${name}) ${tail}`), { state: "S", threads: 15, startTime: "4242" });
    }
    for (const text of ["", "17 (node", "17 (node) S 1 2"]) assert.throws(() => parseStat(text), /not a line/);
  });
});

function stateLetter(pid: number): string {
  return parseStat(readFileSync(`/proc/${pid}/stat`, "latin1")).state;
}
