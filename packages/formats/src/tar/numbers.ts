import { TarError } from "./errors.ts";

export interface Field {
  readonly name: string;
  readonly start: number;
  readonly length: number;
}

const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;

/** Big-endian two's complement, marked by the top bit of its first byte (the GNU and star form). */
const parseBase256 = (block: Uint8Array, field: Field, offset: number): number => {
  const first = block[field.start] ?? 0;
  const negative = (first & 0x40) !== 0;
  let value = negative ? (first & 0x7f) - 0x80 : first & 0x3f;
  for (let index = 1; index < field.length; index += 1) {
    value = value * 256 + (block[field.start + index] ?? 0);
    if (!Number.isSafeInteger(value)) throw new TarError("NUMBER", `the ${field.name} of an entry is out of range`, offset);
  }
  return value;
};

/** An octal or base-256 number of a header. An empty field is 0. Throws TarError NUMBER. */
export const parseNumber = (block: Uint8Array, field: Field, offset: number): number => {
  const first = block[field.start] ?? 0;
  if ((first & 0x80) !== 0) return parseBase256(block, field, offset);
  const end = field.start + field.length;
  let at = field.start;
  while (at < end && (block[at] === SPACE || block[at] === 0)) at += 1;
  let value = 0;
  for (; at < end; at += 1) {
    const digit = block[at] ?? 0;
    if (digit === 0 || digit === SPACE) break;
    if (digit < ZERO || digit > SEVEN) throw new TarError("NUMBER", `the ${field.name} of an entry is not a number`, offset);
    value = value * 8 + (digit - ZERO);
  }
  return value;
};

/** A decimal integer of a PAX record. Throws TarError PAX. */
export const parseDecimal = (text: string, what: string, offset: number): number => {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new TarError("PAX", `the ${what} of an extended header is not a number`, offset);
  return value;
};
