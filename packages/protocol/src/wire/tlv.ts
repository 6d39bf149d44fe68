import { KilnError } from "../errors.ts";
import type { TAGS } from "./constants.ts";

export type Tag = (typeof TAGS)[keyof typeof TAGS];
export type TlvValue = string | number | bigint | Uint8Array;
/** A number is a u32, a bigint a u64, a string UTF-8. */
export type TlvItem = readonly [Tag, TlvValue];

const HEADER_BYTES = 8;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const valueBytes = (value: TlvValue): Uint8Array => {
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof Uint8Array) return value;
  const out = new Uint8Array(typeof value === "bigint" ? 8 : 4);
  const view = new DataView(out.buffer);
  if (typeof value === "bigint") view.setBigUint64(0, value, true);
  else view.setUint32(0, value, true);
  return out;
};

export const encodeTlvs = (items: Iterable<TlvItem>): Uint8Array => {
  const values = Array.from(items, ([tag, value]) => [tag, valueBytes(value)] as const);
  const out = new Uint8Array(values.reduce((sum, [, bytes]) => sum + HEADER_BYTES + bytes.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [tag, bytes] of values) {
    view.setUint16(at, tag, true);
    view.setUint32(at + 4, bytes.length, true);
    out.set(bytes, at + HEADER_BYTES);
    at += HEADER_BYTES + bytes.length;
  }
  return out;
};

/** The fields of one payload. Every getter throws GUEST_AGENT_PROTOCOL for a field that is missing or of the wrong size. */
export class TlvFields {
  readonly #fields: ReadonlyMap<number, readonly Uint8Array[]>;

  constructor(fields: ReadonlyMap<number, readonly Uint8Array[]>) {
    this.#fields = fields;
  }

  all(tag: Tag): readonly Uint8Array[] {
    return this.#fields.get(tag) ?? [];
  }

  has(tag: Tag): boolean {
    return this.#fields.has(tag);
  }

  bytes(tag: Tag): Uint8Array {
    const [first] = this.all(tag);
    if (first === undefined) throw new KilnError("GUEST_AGENT_PROTOCOL", `a message of the agent lacks field ${tag}`);
    return first;
  }

  text(tag: Tag): string {
    return decoder.decode(this.bytes(tag));
  }

  texts(tag: Tag): string[] {
    return this.all(tag).map((bytes) => decoder.decode(bytes));
  }

  u32(tag: Tag): number {
    return viewOf(this.bytes(tag), 4).getUint32(0, true);
  }

  u64(tag: Tag): bigint {
    return viewOf(this.bytes(tag), 8).getBigUint64(0, true);
  }
}

const viewOf = (bytes: Uint8Array, size: number): DataView => {
  if (bytes.length !== size)
    throw new KilnError("GUEST_AGENT_PROTOCOL", `a field of the agent has ${bytes.length} bytes instead of ${size}`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
};

/** Throws GUEST_AGENT_PROTOCOL for bytes that are no TLVs. The fields are views of `payload`. */
export const parseTlvs = (payload: Uint8Array): TlvFields => {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const fields = new Map<number, Uint8Array[]>();
  let at = 0;
  while (at < payload.length) {
    const length = payload.length - at < HEADER_BYTES ? Infinity : view.getUint32(at + 4, true);
    const end = at + HEADER_BYTES + length;
    if (end > payload.length) throw new KilnError("GUEST_AGENT_PROTOCOL", "a message of the agent is cut off within a field");
    const tag = view.getUint16(at, true);
    const list = fields.get(tag) ?? [];
    list.push(payload.subarray(at + HEADER_BYTES, end));
    fields.set(tag, list);
    at = end;
  }
  return new TlvFields(fields);
};
