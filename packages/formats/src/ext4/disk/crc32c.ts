/** CRC-32C (Castagnoli) as ext4 uses it: the running value goes in and out as it is, without inversion. Slicing by eight. */
const POLYNOMIAL = 0x82f6_3b78;
const SLICES = 8;

const buildTables = (): Uint32Array => {
  const tables = new Uint32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    tables[byte] = value >>> 0;
  }
  for (let index = 256; index < tables.length; index += 1) {
    const previous = tables[index - 256] ?? 0;
    tables[index] = ((previous >>> 8) ^ (tables[previous & 0xff] ?? 0)) >>> 0;
  }
  return tables;
};

const TABLES = buildTables();
const at = (slice: number, byte: number): number => TABLES[slice * 256 + byte] ?? 0;

export const CRC_START = 0xffff_ffff;

/** Continues `crc` over `bytes` from `start` to `end` (default: all of it). */
export const crc32c = (crc: number, bytes: Uint8Array, range: { start: number; end: number } = { start: 0, end: bytes.length }): number => {
  let value = crc;
  let index = range.start;
  const whole = range.end - 7;
  for (; index < whole; index += 8) {
    const low =
      value ^ ((bytes[index] ?? 0) | ((bytes[index + 1] ?? 0) << 8) | ((bytes[index + 2] ?? 0) << 16) | ((bytes[index + 3] ?? 0) << 24));
    value =
      at(7, low & 0xff) ^
      at(6, (low >>> 8) & 0xff) ^
      at(5, (low >>> 16) & 0xff) ^
      at(4, low >>> 24) ^
      at(3, bytes[index + 4] ?? 0) ^
      at(2, bytes[index + 5] ?? 0) ^
      at(1, bytes[index + 6] ?? 0) ^
      at(0, bytes[index + 7] ?? 0);
  }
  for (; index < range.end; index += 1) value = (value >>> 8) ^ at(0, (value ^ (bytes[index] ?? 0)) & 0xff);
  return value >>> 0;
};

const word = Buffer.alloc(4);

/** Continues `crc` over one 32-bit little-endian number. */
export const crc32cWord = (crc: number, value: number): number => {
  word.writeUInt32LE(value >>> 0, 0);
  return crc32c(crc, word);
};
