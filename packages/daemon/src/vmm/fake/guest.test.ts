import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FakeClock, systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../agent/connector.ts";
import { collect, eventsOf, execSpec, setupOf } from "../../agent/test-guest.ts";
import { FakeGuest } from "./guest.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });

const fakeSession = async (options: { onPowerOff?: () => void } = {}) => {
  const guest = new FakeGuest({ clock: systemClock, onPowerOff: options.onPowerOff ?? (() => undefined) });
  const session = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  return { guest, session };
};

test("the fake guest runs its commands and says how they ended", async () => {
  const { session } = await fakeSession();
  const echo = await collect(session, execSpec({ id: "a", argv: ["echo", "hello", "there"] }));
  const script = await collect(session, execSpec({ id: "b", argv: ["sh", "-c", "echo 'one two'; exit 7"] }));
  assert.deepEqual([echo.stdout, echo.status.exitCode, script.stdout, script.status.exitCode], ["hello there\n", 0, "one two\n", 7]);
  await assert.rejects(session.exec(execSpec({ id: "c", argv: ["nothing"] }), { signal }), { code: "COMMAND_NOT_FOUND" });
  await session[Symbol.asyncDispose]();
});

test("stdin goes through the fake guest's cat, past its window", async () => {
  const { session } = await fakeSession();
  const text = "0123456789".repeat(50_000);
  const { stdout } = await collect(session, execSpec({ id: "c", argv: ["cat"], stdin: true }), new TextEncoder().encode(text));
  assert.equal(stdout, text);
  await session[Symbol.asyncDispose]();
});

test("a command of the fake guest outlives its session and can be signalled in the next", async () => {
  const { guest, session } = await fakeSession();
  await session.exec(execSpec({ id: "s", argv: ["sleep", "100"] }), { signal });
  await session[Symbol.asyncDispose]();
  const next = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  assert.deepEqual([next.hello.sessions, next.hello.ready], [2, true]);
  await using attachment = await next.attach("s", { signal });
  await next.sendSignal("s", "SIGTERM", { signal });
  const events = await eventsOf(attachment);
  assert.deepEqual(events.at(-1), {
    type: "exit",
    status: { id: "s", running: false, exitCode: null, signal: "SIGTERM", oomKilled: false },
  });
  await next[Symbol.asyncDispose]();
});

test("sleep in the fake guest follows the clock it was given", async () => {
  const clock = new FakeClock();
  const guest = new FakeGuest({ clock, onPowerOff: () => undefined });
  const session = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  const run = collect(session, execSpec({ id: "s", argv: ["sleep", "3600"] }));
  await clock.untilSleeping(1);
  clock.advance(3_600_000);
  assert.equal((await run).status.exitCode, 0);
  await session[Symbol.asyncDispose]();
});

test("power off ends the fake guest's commands, is acknowledged and closes the channel", async () => {
  let off = false;
  const { session } = await fakeSession({ onPowerOff: () => (off = true) });
  await session.exec(execSpec({ id: "s", argv: ["sleep", "100"] }), { signal });
  await session.powerOff(1000, { signal });
  await session.closed;
  assert.equal(off, true);
});

test("commands of the fake guest write on the host, break off the agent's channel, and end the machine", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-fake-"));
  const path = join(directory, "record");
  let halted = 0;
  const guest = new FakeGuest({ clock: systemClock, onPowerOff: () => undefined, onHalt: () => (halted += 1) });
  const session = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  await collect(session, execSpec({ id: "r", argv: ["record", path, "one", "line"] }));
  assert.equal(await readFile(path, "utf8"), "one line\n");
  await rm(directory, { recursive: true });
  await collect(session, execSpec({ id: "h", argv: ["halt"] }));
  assert.equal(halted, 1);
  await assert.rejects(collect(session, execSpec({ id: "u", argv: ["hang-up"] })));
  const next = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  assert.equal(next.hello.ready, true, "the guest runs on");
  await next[Symbol.asyncDispose]();
});
