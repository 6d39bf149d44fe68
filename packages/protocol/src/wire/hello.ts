import { KilnError } from "../errors.ts";
import { FRAME_TYPES, WIRE, WIRE_MAGIC } from "./constants.ts";
import { encodeFrame, type Frame } from "./frame.ts";

export interface Hello {
  readonly nonce: Uint8Array;
  readonly version: number;
  readonly epoch: number;
}

export interface HelloAck extends Hello {
  readonly sessions: number;
  readonly ready: boolean;
  /** A WIRE_ERRORS number; 0 where the session is open. */
  readonly error: number;
}

const MAGIC = new TextEncoder().encode(WIRE_MAGIC);
const NONCE_AT = MAGIC.length;
const VERSION_AT = NONCE_AT + WIRE.nonceBytes;

const payloadOf = (size: number, hello: Hello): { payload: Uint8Array; view: DataView } => {
  const payload = new Uint8Array(size);
  const view = new DataView(payload.buffer);
  payload.set(MAGIC);
  payload.set(hello.nonce, NONCE_AT);
  view.setUint32(VERSION_AT, hello.version, true);
  view.setUint32(VERSION_AT + 4, hello.epoch, true);
  return { payload, view };
};

/** What the host writes first: the flush, then HELLO. */
export const encodeOpening = (hello: Hello): Uint8Array => {
  const { payload } = payloadOf(WIRE.helloBytes, hello);
  const frame = encodeFrame({ type: FRAME_TYPES.HELLO, flags: 0, stream: 0, payload });
  const out = new Uint8Array(WIRE.flushBytes + frame.length);
  out.set(frame, WIRE.flushBytes);
  return out;
};

export const encodeHelloAck = (ack: HelloAck): Uint8Array => {
  const { payload, view } = payloadOf(WIRE.helloAckBytes, ack);
  view.setUint32(VERSION_AT + 8, ack.sessions, true);
  view.setUint32(VERSION_AT + 12, ack.ready ? 1 : 0, true);
  return encodeFrame({ type: FRAME_TYPES.HELLO_ACK, flags: ack.error, stream: 0, payload });
};

const startsWithMagic = (payload: Uint8Array): boolean => MAGIC.every((byte, index) => payload[index] === byte);

/** null where the frame is no HELLO of this protocol. */
export const parseHello = (frame: Frame): Hello | null => {
  const { payload } = frame;
  if (frame.type !== FRAME_TYPES.HELLO || payload.length !== WIRE.helloBytes || !startsWithMagic(payload)) return null;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return {
    nonce: payload.slice(NONCE_AT, VERSION_AT),
    version: view.getUint32(VERSION_AT, true),
    epoch: view.getUint32(VERSION_AT + 4, true),
  };
};

/** Finds the HELLO_ACK with `nonce` in a stream that may begin with anything. Holds less than one HELLO_ACK. */
export class HelloAckScanner {
  readonly #nonce: Uint8Array;
  #pending: Uint8Array = new Uint8Array(0);

  constructor(nonce: Uint8Array) {
    this.#nonce = nonce;
  }

  /** null until it has come; then the answer, and the bytes that follow it. */
  push(bytes: Uint8Array): { ack: HelloAck; rest: Uint8Array } | null {
    const all = new Uint8Array(this.#pending.length + bytes.length);
    all.set(this.#pending);
    all.set(bytes, this.#pending.length);
    const size = WIRE.headerBytes + WIRE.helloAckBytes + WIRE.trailerBytes;
    for (let at = all.indexOf(WIRE.sync); at !== -1 && at + size <= all.length; at = all.indexOf(WIRE.sync, at + 1)) {
      const ack = this.#ackAt(all.subarray(at, at + size));
      if (ack !== null) return { ack, rest: all.subarray(at + size) };
    }
    this.#pending = all.slice(Math.max(0, all.length - size + 1));
    return null;
  }

  #ackAt(bytes: Uint8Array): HelloAck | null {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const payload = bytes.subarray(WIRE.headerBytes, WIRE.headerBytes + WIRE.helloAckBytes);
    const isFrame =
      view.getUint8(1) === FRAME_TYPES.HELLO_ACK &&
      view.getUint32(8, true) === WIRE.helloAckBytes &&
      view.getUint32(bytes.length - WIRE.trailerBytes, true) === WIRE.trailer;
    if (!isFrame || !startsWithMagic(payload)) return null;
    if (!this.#nonce.every((byte, index) => payload[NONCE_AT + index] === byte)) return null;
    const at = WIRE.headerBytes + VERSION_AT;
    return {
      nonce: this.#nonce,
      version: view.getUint32(at, true),
      epoch: view.getUint32(at + 4, true),
      sessions: view.getUint32(at + 8, true),
      ready: view.getUint32(at + 12, true) === 1,
      error: view.getUint16(2, true),
    };
  }
}

/** Throws INTERNAL for an epoch that does not fit the wire. */
export const assertEpoch = (epoch: number): void => {
  if (!Number.isInteger(epoch) || epoch < 0 || epoch > 0xffffffff) throw new KilnError("INTERNAL", `epoch ${epoch} is no u32`);
};
