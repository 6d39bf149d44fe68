import assert from "node:assert/strict";
import { duplexPair, type Duplex } from "node:stream";
import { test } from "node:test";
import {
  encodeChunk,
  encodeExecInfo,
  encodeFrame,
  encodeHelloAck,
  encodeTlvs,
  FRAME_TYPES,
  FrameReader,
  OPS,
  parseHello,
  parseTlvs,
  TAGS,
  WIRE,
  WIRE_ERRORS,
  type ExecInfo,
  type Frame,
} from "@kiln/protocol/wire";
import fc from "fast-check";
import { KilnError } from "@kiln/protocol/errors";
import { Deferred, FakeClock, systemClock, systemRandom } from "@kiln/std";
import type { AgentSession, ExecAttachment } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";
import { eventsOf, execSpec, setupOf } from "./test-guest.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });

/** A guest that says what the test says. It answers HELLO, and requests by `answer`. */
class ScriptedGuest {
  readonly host: Duplex;
  readonly #guest: Duplex;
  readonly requests: Frame[] = [];
  acked = new Deferred<void>();
  answer: (request: Frame) => void = (request) => this.reply(request);

  constructor(options: { hello?: (nonce: Uint8Array) => Uint8Array } = {}) {
    [this.host, this.#guest] = duplexPair();
    const reader = new FrameReader();
    const ack =
      options.hello ?? ((nonce: Uint8Array) => encodeHelloAck({ nonce, version: 1, epoch: 1, sessions: 1, ready: true, error: 0 }));
    this.#guest.on("error", () => undefined); // the host has ended the session
    this.#guest.on("data", (bytes: Uint8Array) => {
      for (const frame of reader.push(bytes)) {
        const hello = parseHello(frame);
        if (hello !== null) this.write(ack(hello.nonce));
        else if (frame.type === FRAME_TYPES.ACK) this.acked.resolve();
        else if (frame.type === FRAME_TYPES.REQUEST) {
          this.requests.push(frame);
          this.answer(frame);
        }
      }
    });
  }

  write(bytes: Uint8Array): void {
    this.#guest.write(bytes);
  }

  frame(type: Frame["type"], to: readonly [flags: number, stream: number], payload: Uint8Array): void {
    this.write(encodeFrame({ type, flags: to[0], stream: to[1], payload }));
  }

  reply(request: Frame, error: number = WIRE_ERRORS.OK): void {
    const payload = request.flags === OPS.ATTACH ? encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info())]]) : new Uint8Array(0);
    this.frame(FRAME_TYPES.REPLY, [error, request.stream], payload);
  }

  output(offset: number, bytes: Uint8Array, stream = 1): void {
    this.frame(FRAME_TYPES.OUTPUT, [1, stream], encodeChunk(offset, bytes));
  }
}

const info = (change: Partial<ExecInfo> = {}): ExecInfo => ({
  ...{
    id: "a",
    state: "RUNNING",
    exitCode: 0,
    signal: 0,
    oomKilled: false,
    tty: false,
    stdin: true,
    drop: false,
    stdinClosed: false,
    pid: 2,
  },
  ...{ stdout: { start: 0, end: 0 }, stderr: { start: 0, end: 0 }, stdinReceived: 0, stdinConsumed: 0 },
  ...change,
});

const attached = async (): Promise<{ guest: ScriptedGuest; session: AgentSession; attachment: ExecAttachment }> => {
  const guest = new ScriptedGuest();
  const session = await connector.connect(guest.host, { epoch: 1, signal });
  return { guest, session, attachment: await session.attach("a", { signal }) };
};

/** What the session does when the guest does this once a command is attached. */
const violates = async (act: (guest: ScriptedGuest) => void): Promise<void> => {
  const { guest, session, attachment } = await attached();
  act(guest);
  await assert.rejects(eventsOf(attachment), { code: "GUEST_AGENT_PROTOCOL" });
  await session.closed;
  await assert.rejects(session.ping({ signal }), { code: "GUEST_AGENT_PROTOCOL" });
};

const bytes = (length: number) => new Uint8Array(length).fill(65);

test("the first byte from the guest that cannot be ends the session", async (context) => {
  const cases: Readonly<Record<string, (guest: ScriptedGuest) => void>> = {
    "a byte that begins no frame": (guest) => guest.write(Uint8Array.of(1)),
    "an unknown frame type": (guest) => guest.write(Uint8Array.of(WIRE.sync, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    "a frame of the host": (guest) => guest.frame(FRAME_TYPES.STDIN, [0, 1], bytes(8)),
    "an answer to nothing": (guest) => guest.frame(FRAME_TYPES.REPLY, [0, 99], bytes(0)),
    "output of a stream that never was": (guest) => guest.output(0, bytes(1), 50),
    "output that goes back": (guest) => [guest.output(0, bytes(10)), guest.output(5, bytes(10))],
    "output that jumps before all was acknowledged": (guest) => [guest.output(0, bytes(10)), guest.output(20, bytes(10))],
    "output without bytes": (guest) => guest.output(0, bytes(0)),
    "output past 2^53": (guest) => guest.frame(FRAME_TYPES.OUTPUT, [1, 1], Buffer.concat([Buffer.alloc(8, 0xff), bytes(1)])),
    "output beyond the window": (guest) => Array.from({ length: 40 }, (_, index) => guest.output(index * 16_000, bytes(16_000))),
    "output of a third stream": (guest) => guest.frame(FRAME_TYPES.OUTPUT, [3, 1], encodeChunk(0, bytes(1))),
    "an exit before its output": (guest) =>
      guest.frame(
        FRAME_TYPES.EXIT,
        [0, 1],
        encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info({ state: "EXITED", stdout: { start: 0, end: 5 } }))]]),
      ),
    "an exit of another command": (guest) =>
      guest.frame(FRAME_TYPES.EXIT, [0, 1], encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info({ state: "EXITED", id: "b" }))]])),
    "an exit that cannot be read": (guest) => guest.frame(FRAME_TYPES.EXIT, [0, 1], bytes(20)),
    "a stdin window for bytes never sent": (guest) => guest.frame(FRAME_TYPES.WINDOW, [0, 1], encodeChunk(1000, encodeChunk(0, bytes(0)))),
  };
  for (const [name, act] of Object.entries(cases)) await context.test(name, () => violates(act));
});

test("a reply that cannot be read rejects its request and ends the session", async () => {
  for (const payload of [
    bytes(5),
    encodeTlvs([[TAGS.EXEC_INFO, bytes(10)]]),
    encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info({ id: "b" }))]]),
  ]) {
    const guest = new ScriptedGuest();
    const session = await connector.connect(guest.host, { epoch: 1, signal });
    guest.answer = (request) => guest.frame(FRAME_TYPES.REPLY, [0, request.stream], payload);
    await assert.rejects(session.attach("a", { signal }), { code: "GUEST_AGENT_PROTOCOL" });
    await session.closed;
  }
});

test("whatever frames come, the session lives on or ends with a typed error", async () => {
  const frame = fc.record({
    type: fc.constantFrom(FRAME_TYPES.REPLY, FRAME_TYPES.OUTPUT, FRAME_TYPES.WINDOW, FRAME_TYPES.EXIT),
    flags: fc.constantFrom(0, 1, 2, 3, WIRE.moreFlag),
    stream: fc.nat(3),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 120 }),
      fc.nat(40).map((offset) => encodeChunk(offset, bytes(9))),
    ),
  });
  const property = fc.asyncProperty(fc.array(frame, { maxLength: 6 }), async (frames) => {
    const { guest, session, attachment } = await attached();
    for (const one of frames) guest.frame(one.type, [one.flags, one.stream], one.payload);
    const ping = await Promise.allSettled([session.ping({ signal })]);
    await session[Symbol.asyncDispose]();
    const outcomes = [...ping, ...(await Promise.allSettled([eventsOf(attachment)]))];
    const codes = outcomes.flatMap((one) => (one.status === "rejected" && one.reason instanceof KilnError ? [one.reason.code] : []));
    // a forged reply to the ping is a refusal in the guest's own words
    const typed = new Set(["GUEST_AGENT_PROTOCOL", "CANCELLED", "EXEC_NOT_FOUND", "COMMAND_NOT_FOUND", "COMMAND_NOT_EXECUTABLE"]);
    assert.ok(
      codes.every((code) => typed.has(code)),
      codes.join(),
    );
    assert.ok(outcomes.every((one) => one.status === "fulfilled" || one.reason instanceof KilnError));
  });
  await fc.assert(property, { numRuns: 300 });
});

test("I29 doubled and late frames change nothing", async () => {
  const { guest, session, attachment } = await attached();
  const [request] = guest.requests;
  assert.ok(request);
  guest.reply(request);
  guest.reply(request, WIRE_ERRORS.FAILED);
  guest.write(encodeHelloAck({ nonce: bytes(16), version: 1, epoch: 9, sessions: 9, ready: false, error: 0 }));
  await attachment[Symbol.asyncDispose]();
  guest.output(0, bytes(3));
  await session.ping({ signal });
  assert.deepEqual(session.hello, { version: 1, epoch: 1, sessions: 1, ready: true });
});

test("a jump in the offsets passes once all before it was acknowledged", async () => {
  const { guest, attachment } = await attached();
  const offsets: number[] = [];
  guest.output(0, bytes(10));
  for await (const event of attachment.events) {
    if (event.type === "exit") break;
    offsets.push(event.offset);
    attachment.acknowledge("stdout", event.offset + event.bytes.length);
    await guest.acked.promise;
    if (offsets.length === 1) guest.output(500, bytes(10));
    else
      guest.frame(
        FRAME_TYPES.EXIT,
        [0, 1],
        encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info({ state: "EXITED", stdout: { start: 510, end: 510 } }))]]),
      );
  }
  assert.deepEqual(offsets, [0, 500]);
});

test("small pieces of output reach a late reader merged, in order and whole", async () => {
  const { guest, session, attachment } = await attached();
  for (let offset = 0; offset < 20_000; offset += 1) guest.output(offset, Uint8Array.of(offset & 255));
  guest.frame(
    FRAME_TYPES.EXIT,
    [0, 1],
    encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(info({ state: "EXITED", stdout: { start: 20_000, end: 20_000 } }))]]),
  );
  await session.ping({ signal });
  const events = await eventsOf(attachment);
  const outputs = events.filter((event) => event.type === "output");
  assert.equal(outputs.length, 2);
  assert.ok(Buffer.concat(outputs.map((event) => event.bytes)).every((byte, index) => byte === (index & 255)));
  await assert.rejects(eventsOf(attachment), { code: "INTERNAL" });
});

test("writes of stdin wait for the window of their own command only", async () => {
  const { guest, session, attachment } = await attached();
  let done = false;
  const writing = attachment.writeStdin(bytes(WIRE.stdinWindowBytes + 10), { signal }).then(() => (done = true));
  await session.ping({ signal });
  assert.equal(done, false);
  guest.frame(FRAME_TYPES.WINDOW, [0, 1], encodeChunk(WIRE.stdinWindowBytes, encodeChunk(WIRE.stdinWindowBytes, bytes(0))));
  await systemClock.sleep(5, { signal });
  guest.frame(FRAME_TYPES.WINDOW, [0, 1], encodeChunk(WIRE.stdinWindowBytes + 10, encodeChunk(WIRE.stdinWindowBytes, bytes(0))));
  await writing;
  const leaver = new AbortController();
  const left = attachment.writeStdin(bytes(WIRE.stdinWindowBytes), { signal: leaver.signal });
  leaver.abort(new Error("left"));
  await assert.rejects(left, /left/);
});

test("refusals become typed errors with the guest's words", async () => {
  const guest = new ScriptedGuest();
  const session = await connector.connect(guest.host, { epoch: 1, signal });
  const payload = encodeTlvs([
    [TAGS.STEP, "root"],
    [TAGS.ERRNO, 5],
    [TAGS.MESSAGE, "cannot mount /dev/vda"],
  ]);
  guest.answer = (request) => guest.frame(FRAME_TYPES.REPLY, [WIRE_ERRORS.SETUP_FAILED, request.stream], payload);
  await assert.rejects(session.setup(setupOf(), { signal }), {
    code: "GUEST_SETUP_FAILED",
    message: "guest setup: step root: cannot mount /dev/vda: EIO",
  });
  guest.answer = (request) => guest.reply(request, WIRE_ERRORS.EXEC_NOT_FOUND);
  await assert.rejects(session.attach("a", { signal }), { code: "EXEC_NOT_FOUND" });
  await assert.rejects(session.exec(execSpec({ id: "a", argv: ["a\0b"] }), { signal }), { code: "REQUEST_INVALID" });
  await assert.rejects(session.sendSignal("a", "SIGNOPE", { signal }), { code: "REQUEST_INVALID" });
});

test("I31 a guest that was late to take its time is told it again, until it took it soon", async () => {
  const clock = new FakeClock();
  const guest = new ScriptedGuest();
  const session = await createAgentConnector({ clock, random: systemRandom }).connect(guest.host, { epoch: 1, signal });
  const step = (name: string, ms: number) =>
    [TAGS.STEP_TIME, Buffer.concat([Buffer.from(Uint32Array.of(ms * 1000).buffer), Buffer.from(name)])] as const;
  const steps = encodeTlvs([step("entropy", 40), step("clock", 5), step("root", 100)]);
  const late = [50, 30, 5];
  guest.answer = (request) => {
    const isSetup = request.flags === OPS.SETUP;
    clock.advance((late.shift() ?? 0) + (isSetup ? 100 : 0));
    guest.frame(FRAME_TYPES.REPLY, [WIRE_ERRORS.OK, request.stream], isSetup ? steps : new Uint8Array(0));
  };
  assert.deepEqual(await session.setup(setupOf({ clockNs: 7_000_000_000n }), { signal }), { entropy: 40, clock: 5, root: 100 });
  const told = guest.requests.slice(1).map(({ flags, payload }) => [flags, parseTlvs(payload).u64(TAGS.CLOCK_NS)]);
  assert.deepEqual(told, [
    [OPS.CLOCK, 7_150_000_000n],
    [OPS.CLOCK, 7_180_000_000n],
  ]);
  late.push(15);
  await session.setup(setupOf(), { signal });
  assert.equal(guest.requests.length, 4, "soon enough");
});

test("a guest that does not answer is a timeout, and the channel is closed where it was HELLO", async () => {
  const clock = new FakeClock();
  const own = createAgentConnector({ clock, random: systemRandom });
  const silent = new ScriptedGuest({ hello: () => Buffer.from("noise that is no HELLO_ACK") });
  const opening = assert.rejects(own.connect(silent.host, { epoch: 1, signal }), { code: "GUEST_AGENT_TIMEOUT" });
  await clock.untilSleeping(1);
  clock.advance(60_000);
  await opening;
  assert.equal(silent.host.destroyed, true);
  const guest = new ScriptedGuest();
  guest.answer = () => undefined;
  const session = await own.connect(guest.host, { epoch: 1, signal });
  const ping = assert.rejects(session.ping({ signal }), { code: "GUEST_AGENT_TIMEOUT" });
  await clock.untilSleeping(1);
  clock.advance(30_000);
  await ping;
});

test("a channel that ends rejects what waits and settles closed", async () => {
  const { guest, session, attachment } = await attached();
  guest.answer = () => guest.host.destroy();
  await assert.rejects(session.ping({ signal }), { code: "GUEST_AGENT_TIMEOUT" });
  await assert.rejects(eventsOf(attachment), { code: "GUEST_AGENT_TIMEOUT" });
  await session.closed;
});

test("a HELLO_ACK of another epoch, version or a refusal opens no session", async () => {
  const ack = { version: 1, epoch: 1, sessions: 1, ready: false, error: 0 };
  for (const change of [
    { epoch: 2 },
    { version: 2 },
    { sessions: 0 },
    { error: WIRE_ERRORS.STALE_EPOCH },
    { error: WIRE_ERRORS.UNSUPPORTED },
  ]) {
    const guest = new ScriptedGuest({ hello: (nonce) => encodeHelloAck({ nonce, ...ack, ...change }) });
    await assert.rejects(connector.connect(guest.host, { epoch: 1, signal }), { code: "GUEST_AGENT_PROTOCOL" });
    assert.equal(guest.host.destroyed, true);
  }
});
