import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  encodeExec,
  encodeExecInfo,
  encodeFrame,
  encodeHelloAck,
  encodeOpening,
  encodeSetup,
  encodeSplit,
  encodeTlvs,
  FRAME_TYPES,
  FrameReader,
  HelloAckScanner,
  parseExec,
  parseExecInfo,
  parseHello,
  parseSetup,
  parseSignal,
  parseTlvs,
  Reassembly,
  signalName,
  TAGS,
  WIRE,
  type ExecInfo,
  type Frame,
} from "./index.ts";

const frames = fc.array(
  fc.record({
    type: fc.constantFrom(...Object.values(FRAME_TYPES)),
    flags: fc.nat(0xffff),
    stream: fc.nat(0xffffffff),
    payload: fc.uint8Array({ maxLength: 300 }),
  }),
  { maxLength: 8 },
);

/** Pieces of `bytes`, cut at the given places. */
const cut = (bytes: Uint8Array, places: readonly number[]): Uint8Array[] => {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end));
};

const plain = (frame: Frame) => ({ ...frame, payload: [...frame.payload] });

test("frames come out as they went in, however the stream is cut and padded", () => {
  fc.assert(
    fc.property(frames, fc.array(fc.nat(), { maxLength: 10 }), (list, places) => {
      const bytes = Buffer.concat(list.flatMap((frame) => [new Uint8Array(3), encodeFrame(frame)]));
      const reader = new FrameReader();
      const read = cut(bytes, places).flatMap((piece) => reader.push(piece));
      assert.deepEqual(read.map(plain), list.map(plain));
    }),
  );
});

test("any bytes are frames or a typed refusal", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        new FrameReader().push(Buffer.concat([Uint8Array.of(WIRE.sync), bytes]));
      } catch (error) {
        assert.equal(error instanceof Error && "code" in error && error.code, "GUEST_AGENT_PROTOCOL");
      }
    }),
  );
});

test("a frame over the limit, of an unknown type or without its trailer is refused", () => {
  const frame = { type: FRAME_TYPES.REPLY, flags: 0, stream: 1, payload: new Uint8Array(5) };
  for (const [at, value] of [
    [0, 0x4c],
    [1, 99],
    [10, 0xff],
    [20, 1],
  ] as const) {
    const bytes = encodeFrame(frame);
    bytes[at] = value;
    assert.throws(() => new FrameReader().push(bytes), { code: "GUEST_AGENT_PROTOCOL" });
  }
  assert.throws(() => encodeFrame({ ...frame, payload: new Uint8Array(WIRE.payloadBytes + 1) }), RangeError);
});

test("a payload of any size survives being split, and one over the limit is refused", () => {
  const payload = Uint8Array.from({ length: 2 * WIRE.payloadBytes + 5 }, (_, index) => index);
  const parts = encodeSplit({ type: FRAME_TYPES.REQUEST, flags: 2, stream: 9, payload });
  const join = (limit: number) => {
    const reader = new FrameReader();
    const whole = new Reassembly(limit);
    return parts
      .flatMap((part) => reader.push(part))
      .map((frame) => whole.push(frame))
      .at(-1);
  };
  assert.equal(parts.length, 3);
  assert.deepEqual(join(payload.length), { type: FRAME_TYPES.REQUEST, flags: 2, stream: 9, payload });
  assert.throws(() => join(payload.length - 1), { code: "GUEST_AGENT_PROTOCOL" });
});

test("HELLO_ACK is found behind any bytes, only with its nonce", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(), { maxLength: 6 }), (before, places) => {
      const nonce = new Uint8Array(16).fill(9);
      const ack = { nonce, version: 1, epoch: 3, sessions: 2, ready: true, error: 0 };
      const other = encodeHelloAck({ ...ack, nonce: new Uint8Array(16) });
      const bytes = Buffer.concat([before, other, encodeHelloAck(ack), Buffer.from("rest")]);
      const scanner = new HelloAckScanner(nonce);
      const pieces = cut(bytes, places);
      let found = null;
      while (found === null && pieces.length > 0) found = scanner.push(pieces.shift() ?? new Uint8Array(0));
      assert.deepEqual(found?.ack, ack);
      assert.equal(Buffer.concat([found?.rest ?? new Uint8Array(0), ...pieces]).toString(), "rest");
    }),
  );
});

test("the opening is a flush of zeros and a HELLO", () => {
  const hello = { nonce: new Uint8Array(16).fill(5), version: 1, epoch: 7 };
  const [frame, ...more] = new FrameReader().push(encodeOpening(hello));
  assert.deepEqual(frame && parseHello(frame), hello);
  assert.equal(more.length, 0);
});

test("EXEC, SETUP and EXEC_INFO come out as they went in", () => {
  const exec = {
    id: "a",
    argv: ["echo", "ü"],
    env: ["A=b"],
    cwd: "/x",
    user: "u:g",
    tty: { rows: 3, cols: 500 },
    stdin: true,
    overflow: "drop",
  } as const;
  const setup = {
    modules: ["a", "b"],
    disks: { root: "r", writable: "w", modules: "m" },
    hostname: "h",
    machineId: "0",
    clockNs: 2n ** 60n,
    entropy: new Uint8Array(64).fill(1),
    hosts: "x\n",
    resolvConf: "",
    bootId: "11111111-2222-4333-8444-555555555555",
    network: {
      modules: ["net_failover", "virtio_net"],
      mac: Uint8Array.of(2, 1, 2, 3, 4, 5),
      address: Uint8Array.of(10, 0, 2, 15),
      prefixBits: 24,
      gateway: Uint8Array.of(10, 0, 2, 2),
    },
  };
  const info: ExecInfo = {
    ...{
      id: "web",
      state: "EXITED" as const,
      exitCode: 0,
      signal: 9,
      oomKilled: true,
      tty: false,
      stdin: true,
      drop: true,
      stdinClosed: true,
      pid: 12,
    },
    ...{ stdout: { start: 5, end: 2 ** 40 }, stderr: { start: 0, end: 0 }, stdinReceived: 7, stdinConsumed: 6 },
  };
  assert.deepEqual(parseExec(encodeExec(exec)), exec);
  assert.deepEqual(parseSetup(encodeSetup(setup)), setup);
  assert.deepEqual(parseExecInfo(encodeExecInfo(info)), info);
});

test("fields that are cut off, missing or of the wrong size are refused", () => {
  const bytes = encodeTlvs([[TAGS.SIGNAL, 9]]);
  for (const length of [1, 7, 8, 11]) assert.throws(() => parseTlvs(bytes.subarray(0, length)), { code: "GUEST_AGENT_PROTOCOL" });
  assert.throws(() => parseTlvs(bytes).u64(TAGS.SIGNAL), { code: "GUEST_AGENT_PROTOCOL" });
  assert.throws(() => parseTlvs(bytes).text(TAGS.MESSAGE), { code: "GUEST_AGENT_PROTOCOL" });
  assert.equal(parseTlvs(bytes).u32(TAGS.SIGNAL), 9);
});

test("signals go by name, with and without SIG, and by number", () => {
  assert.deepEqual(["SIGTERM", "kill", "10", "40", "0", "SIGFOO", ""].map(parseSignal), [15, 9, 10, 40, null, null, null]);
  assert.deepEqual([signalName(15), signalName(40)], ["SIGTERM", "SIG40"]);
});
