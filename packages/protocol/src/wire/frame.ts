import { KilnError } from "../errors.ts";
import { FRAME_TYPES, WIRE, type FrameType } from "./constants.ts";

export interface Frame {
  readonly type: FrameType;
  /** u16, by type. */
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

const TYPES: ReadonlySet<number> = new Set(Object.values(FRAME_TYPES));
const isFrameType = (type: number): type is FrameType => TYPES.has(type);

const violation = (what: string): KilnError => new KilnError("GUEST_AGENT_PROTOCOL", `the agent's stream is malformed: ${what}`);

/** One frame as bytes. Throws RangeError for a payload over `WIRE.payloadBytes`: splitting is the caller's. */
export const encodeFrame = (frame: Frame): Uint8Array => {
  const { payload } = frame;
  if (payload.length > WIRE.payloadBytes) throw new RangeError(`a frame's payload of ${payload.length} bytes exceeds ${WIRE.payloadBytes}`);
  const out = new Uint8Array(WIRE.headerBytes + payload.length + WIRE.trailerBytes);
  const view = new DataView(out.buffer);
  out[0] = WIRE.sync;
  out[1] = frame.type;
  view.setUint16(2, frame.flags, true);
  view.setUint32(4, frame.stream, true);
  view.setUint32(8, payload.length, true);
  out.set(payload, WIRE.headerBytes);
  view.setUint32(WIRE.headerBytes + payload.length, WIRE.trailer, true);
  return out;
};

/** A payload of any size as one frame or several; all but the last carry `moreFlag`. */
export const encodeSplit = (frame: Frame): Uint8Array[] => {
  const parts: Uint8Array[] = [];
  let at = 0;
  do {
    const payload = frame.payload.subarray(at, at + WIRE.payloadBytes);
    at += payload.length;
    const flags = at < frame.payload.length ? frame.flags | WIRE.moreFlag : frame.flags;
    parts.push(encodeFrame({ ...frame, flags, payload }));
  } while (at < frame.payload.length);
  return parts;
};

/** Joins two byte arrays; gives the one that is not empty as it is. */
const joined = (left: Uint8Array, right: Uint8Array): Uint8Array => {
  if (left.length === 0) return right;
  const out = new Uint8Array(left.length + right.length);
  out.set(left);
  out.set(right, left.length);
  return out;
};

/** The frame at `at`, how far it goes, or null while it is not whole. Throws GUEST_AGENT_PROTOCOL as soon as it cannot become one. */
const frameAt = (bytes: Uint8Array, at: number): { frame: Frame; end: number } | null => {
  if (bytes[at] !== WIRE.sync) throw violation(`byte 0x${(bytes[at] ?? 0).toString(16)} where a frame begins`);
  if (bytes.length - at < WIRE.headerBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const type = view.getUint8(1);
  const length = view.getUint32(8, true);
  if (!isFrameType(type)) throw violation(`unknown frame type ${type}`);
  if (length > WIRE.payloadBytes) throw violation(`a frame of ${length} bytes`);
  const end = WIRE.headerBytes + length + WIRE.trailerBytes;
  if (view.byteLength < end) return null;
  if (view.getUint32(end - WIRE.trailerBytes, true) !== WIRE.trailer) throw violation("a frame without its trailer");
  const payload = bytes.subarray(at + WIRE.headerBytes, at + WIRE.headerBytes + length);
  return { frame: { type, flags: view.getUint16(2, true), stream: view.getUint32(4, true), payload }, end: at + end };
};

/** Strict reader of frames. Holds less than one frame between calls. */
export class FrameReader {
  #pending: Uint8Array = new Uint8Array(0);

  /** The whole frames up to and with these bytes, as views of them. Throws GUEST_AGENT_PROTOCOL; the reader is useless from then on. */
  push(bytes: Uint8Array): Frame[] {
    const all = joined(this.#pending, bytes);
    const frames: Frame[] = [];
    let at = 0;
    while (at < all.length) {
      if (all[at] === 0) {
        at += 1;
        continue;
      }
      const next = frameAt(all, at);
      if (next === null) break;
      frames.push(next.frame);
      at = next.end;
    }
    this.#pending = all.slice(at);
    return frames;
  }
}

/** Puts the parts of a split payload together. */
export class Reassembly {
  readonly #maxBytes: number;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #stream: number | null = null;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The whole frame once its last part is in, else null. Throws GUEST_AGENT_PROTOCOL past the limit or when another frame comes between. */
  push(frame: Frame): Frame | null {
    if (this.#stream !== null && this.#stream !== frame.stream) throw violation("a split message was interrupted by another");
    this.#bytes += frame.payload.length;
    if (this.#bytes > this.#maxBytes) throw violation(`a message over ${this.#maxBytes} bytes`);
    this.#parts.push(frame.payload.slice());
    if ((frame.flags & WIRE.moreFlag) !== 0) {
      this.#stream = frame.stream;
      return null;
    }
    const payload = new Uint8Array(this.#bytes);
    let at = 0;
    for (const part of this.#parts) {
      payload.set(part, at);
      at += part.length;
    }
    this.#parts = [];
    this.#bytes = 0;
    this.#stream = null;
    return { ...frame, payload };
  }
}
