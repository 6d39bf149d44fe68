import assert from "node:assert/strict";
import { duplexPair, type Duplex } from "node:stream";
import { test } from "node:test";
import { encodeFrame, encodeHelloAck, FRAME_TYPES, FrameReader, OPS, parseHello, WIRE, WIRE_ERRORS, type Frame } from "@kiln/protocol/wire";
import { systemClock, systemRandom } from "@kiln/std";
import type { AgentSession, GuestConnection } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
const NONE = new Uint8Array(0);

/** A guest that answers HELLO and takes each connection, and otherwise says what the test says. */
class DialedGuest {
  readonly host: Duplex;
  readonly #guest: Duplex;
  readonly frames: Frame[] = [];
  answers = true;

  constructor() {
    [this.host, this.#guest] = duplexPair();
    const reader = new FrameReader();
    this.#guest.on("error", () => undefined); // the host has ended the session
    this.#guest.on("data", (bytes: Uint8Array) => reader.push(bytes).forEach((frame) => this.#onFrame(frame)));
  }

  #onFrame(frame: Frame): void {
    const hello = parseHello(frame);
    if (hello !== null) this.write(encodeHelloAck({ nonce: hello.nonce, version: 1, epoch: 1, sessions: 1, ready: true, error: 0 }));
    else if (frame.type !== FRAME_TYPES.REQUEST) this.frames.push({ ...frame, payload: frame.payload.slice() });
    else if (frame.flags !== OPS.DIAL || this.answers) this.frame(FRAME_TYPES.REPLY, [WIRE_ERRORS.OK, frame.stream], NONE);
  }

  write(bytes: Uint8Array): void {
    if (!this.#guest.destroyed) this.#guest.write(bytes);
  }

  frame(type: Frame["type"], [flags, stream]: readonly [number, number], payload: Uint8Array): void {
    this.write(encodeFrame({ type, flags, stream, payload }));
  }

  data(bytes: number, flags = 0, stream = 1): void {
    this.frame(FRAME_TYPES.DATA, [flags, stream], new Uint8Array(bytes));
  }

  /** Data frames of the host, as bytes. */
  get received(): number {
    return this.frames.filter(({ type }) => type === FRAME_TYPES.DATA).reduce((sum, { payload }) => sum + payload.length, 0);
  }
}

const dialed = async (
  protocol: "tcp" | "udp" = "tcp",
): Promise<{ guest: DialedGuest; session: AgentSession; connection: GuestConnection }> => {
  const guest = new DialedGuest();
  const session = await connector.connect(guest.host, { epoch: 1, signal });
  const connection = session.dial({ protocol, port: 80 });
  await connection.opened;
  return { guest, session, connection };
};

const offset = (value: number): Uint8Array => {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setBigUint64(0, BigInt(value), true);
  return payload;
};

const PROTOCOL_ERROR = { code: "GUEST_AGENT_PROTOCOL" };

const violations: readonly [what: string, guestDoes: (guest: DialedGuest) => void][] = [
  ["data of a number that was never given out", (guest) => guest.data(1, 0, 9)],
  ["data of number 0", (guest) => guest.data(1, 0, 0)],
  ["an empty piece of data", (guest) => guest.data(0)],
  ["data with unknown flags", (guest) => guest.data(1, 2)],
  ["a part of a datagram on a stream of bytes", (guest) => guest.data(1, WIRE.moreFlag)],
  [
    "more bytes than its window has",
    (guest) => {
      for (let bytes = 0; bytes <= WIRE.connectionWindowBytes; bytes += WIRE.payloadBytes) guest.data(WIRE.payloadBytes);
    },
  ],
  [
    "data after its end",
    (guest) => {
      guest.data(1, 1);
      guest.data(1);
    },
  ],
  [
    "data after its reset",
    (guest) => {
      guest.frame(FRAME_TYPES.RESET, [0, 1], NONE);
      guest.data(1);
    },
  ],
  ["credit for bytes that were never sent", (guest) => guest.frame(FRAME_TYPES.CREDIT, [0, 1], offset(1))],
  ["credit past 2^53", (guest) => guest.frame(FRAME_TYPES.CREDIT, [0, 1], new Uint8Array(8).fill(255))],
  ["credit of the wrong size", (guest) => guest.frame(FRAME_TYPES.CREDIT, [0, 1], new Uint8Array(4))],
  ["a reset of a number that was never given out", (guest) => guest.frame(FRAME_TYPES.RESET, [0, 7], NONE)],
];

for (const [what, guestDoes] of violations) {
  test(`a guest that sends ${what} loses its session`, async () => {
    const { guest, session, connection } = await dialed();
    guestDoes(guest);
    await session.closed;
    await assert.rejects(session.ping({ signal }), PROTOCOL_ERROR);
    await assert.rejects(async () => {
      while ((await connection.read()) !== null);
      await connection.write(new Uint8Array(1));
    });
  });
}

test("datagrams are checked as well: an end, a credit, and one that grows beyond the largest", async () => {
  const acts: ((guest: DialedGuest) => void)[] = [
    (guest) => guest.data(1, 1),
    (guest) => guest.frame(FRAME_TYPES.CREDIT, [0, 1], offset(0)),
    (guest) => {
      for (let parts = 0; parts < 4; parts += 1) guest.data(WIRE.payloadBytes, WIRE.moreFlag);
    },
  ];
  for (const act of acts) {
    const { guest, session } = await dialed("udp");
    act(guest);
    await session.closed;
    await assert.rejects(session.ping({ signal }), PROTOCOL_ERROR);
  }
});

test("a guest that sends single bytes to a reader that does not read takes no more room than its window", async () => {
  const { guest, session, connection } = await dialed();
  const before = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  for (let index = 0; index < WIRE.connectionWindowBytes; index += 1) guest.data(1);
  await session.ping({ signal });
  const held = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers - before;
  assert.equal((await connection.read())?.length, WIRE.connectionWindowBytes);
  assert.ok(held < 64 * 2 ** 20, `${held} bytes`);
});

test("a guest that gives no credit gets one window and no more, and another connection is not held up", async () => {
  const { guest, session, connection } = await dialed();
  const stuck = connection.write(new Uint8Array(10 * WIRE.connectionWindowBytes));
  const other = session.dial({ protocol: "tcp", port: 81 });
  await other.write(new Uint8Array(10));
  other.end();
  await session.ping({ signal });
  assert.equal(guest.received, WIRE.connectionWindowBytes + 10);
  guest.frame(FRAME_TYPES.CREDIT, [0, 1], offset(1000));
  await session.ping({ signal });
  assert.equal(guest.received, WIRE.connectionWindowBytes + 1010);
  connection[Symbol.dispose]();
  await assert.rejects(stuck, { code: "CANCELLED" });
});

test("what was on its way when this side broke off is let pass until the guest has answered", async () => {
  const { guest, session, connection } = await dialed();
  connection[Symbol.dispose]();
  guest.data(100);
  guest.frame(FRAME_TYPES.CREDIT, [0, 1], offset(0));
  await session.ping({ signal });
  assert.equal(guest.frames.at(-1)?.type, FRAME_TYPES.RESET);
  guest.frame(FRAME_TYPES.RESET, [0, 1], NONE);
  await session.ping({ signal });
  guest.frame(FRAME_TYPES.RESET, [0, 1], NONE); // as after two that met
  await session.ping({ signal });
  guest.data(1);
  await session.closed;
});

test("a guest that never answers resets has no more connections than one that does", async () => {
  const { session } = await dialed();
  for (let index = 1; index < WIRE.connections; index += 1) session.dial({ protocol: "tcp", port: 80 })[Symbol.dispose]();
  assert.throws(() => session.dial({ protocol: "tcp", port: 80 }), { code: "QUEUE_FULL" });
});

test("a guest that floods datagrams nobody reads fills a short queue, and the newest are dropped", async () => {
  const { guest, session, connection } = await dialed("udp");
  for (let index = 0; index < 10_000; index += 1) guest.data(100);
  await session.ping({ signal });
  for (let count = 0; count < 64; count += 1) assert.equal((await connection.read())?.length, 100);
  const one = connection.read();
  connection[Symbol.dispose]();
  await assert.rejects(one, { code: "CANCELLED" });
});

test("who leaves before the guest has answered is broken off there too", async () => {
  const guest = new DialedGuest();
  const session = await connector.connect(guest.host, { epoch: 1, signal });
  guest.answers = false;
  const connection = session.dial({ protocol: "tcp", port: 80 });
  await connection.write(Buffer.from("early"));
  connection[Symbol.dispose]();
  await assert.rejects(connection.opened, { code: "CANCELLED" });
  await session.ping({ signal });
  assert.deepEqual(
    guest.frames.map(({ type }) => type),
    [FRAME_TYPES.DATA, FRAME_TYPES.RESET],
  );
});
