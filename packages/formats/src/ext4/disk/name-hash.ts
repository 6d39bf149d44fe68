import type { RawName } from "../../tar/index.ts";

/** Bytes of a name that one round takes. */
const CHUNK_BYTES = 32;
const CHUNK_WORDS = CHUNK_BYTES / 4;
const K2 = 0x5a82_7999;
const K3 = 0x6ed9_eba1;
/** Readers of directories use the largest value for "the end": a name that hashes to it takes the one below. */
const END_OF_DIRECTORY = 0xffff_fffe;
const BEFORE_END = 0xffff_fffc;

const rotate = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

const choose = (x: number, y: number, z: number): number => z ^ (x & (y ^ z));
const majority = (x: number, y: number, z: number): number => ((x & y) + ((x ^ y) & z)) | 0;
const parity = (x: number, y: number, z: number): number => x ^ y ^ z;

type Mix = (x: number, y: number, z: number) => number;

interface Round {
  readonly mix: Mix;
  readonly add: number;
  readonly order: readonly number[];
  readonly shifts: readonly [number, number, number, number];
}

/** Three of MD4's rounds, on eight words instead of sixteen. */
const ROUNDS: readonly Round[] = [
  { mix: choose, add: 0, order: [0, 1, 2, 3, 4, 5, 6, 7], shifts: [3, 7, 11, 19] },
  { mix: majority, add: K2, order: [1, 3, 5, 7, 0, 2, 4, 6], shifts: [3, 5, 9, 13] },
  { mix: parity, add: K3, order: [3, 7, 2, 6, 1, 5, 0, 4], shifts: [3, 9, 11, 15] },
];

const transform = (state: Int32Array, words: Int32Array): void => {
  let [a = 0, b = 0, c = 0, d = 0] = state;
  for (const { mix, add, order, shifts } of ROUNDS) {
    for (let index = 0; index < CHUNK_WORDS; index += 4) {
      a = rotate((a + mix(b, c, d) + (words[order[index] ?? 0] ?? 0) + add) | 0, shifts[0]);
      d = rotate((d + mix(a, b, c) + (words[order[index + 1] ?? 0] ?? 0) + add) | 0, shifts[1]);
      c = rotate((c + mix(d, a, b) + (words[order[index + 2] ?? 0] ?? 0) + add) | 0, shifts[2]);
      b = rotate((b + mix(c, d, a) + (words[order[index + 3] ?? 0] ?? 0) + add) | 0, shifts[3]);
    }
  }
  state[0] = (state[0] ?? 0) + a;
  state[1] = (state[1] ?? 0) + b;
  state[2] = (state[2] ?? 0) + c;
  state[3] = (state[3] ?? 0) + d;
};

/** Packs the name from `start` on into big-endian words, bytes over 127 as negative numbers; what is missing says how much was left. */
const pack = (name: RawName, start: number, words: Int32Array): void => {
  const left = name.length - start;
  const half = left | (left << 8);
  const padding = half | (half << 16);
  const length = Math.min(left, CHUNK_BYTES);
  let value = padding;
  let word = 0;
  for (let index = 0; index < length; index += 1) {
    value = (((name.charCodeAt(start + index) << 24) >> 24) + (value << 8)) | 0;
    if ((index & 3) !== 3) continue;
    words[word] = value;
    word += 1;
    value = padding;
  }
  for (; word < CHUNK_WORDS; word += 1) {
    words[word] = value;
    value = padding;
  }
};

const state = new Int32Array(4);
const words = new Int32Array(CHUNK_WORDS);

/** The words that a hash starts from; all zero means MD4's own. */
export const readHashSeed = (seed: Uint8Array): Int32Array => {
  const view = new DataView(seed.buffer, seed.byteOffset, seed.byteLength);
  const start = Int32Array.from([0, 4, 8, 12], (at) => view.getInt32(at, true));
  return start.some((word) => word !== 0) ? start : Int32Array.from([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]);
};

/** Hash of a name in an indexed directory: half MD4 with signed bytes, an even number below 2^32. `seed` comes from `readHashSeed`. */
export const hashName = (name: RawName, seed: Int32Array): number => {
  state.set(seed);
  for (let start = 0; start < name.length; start += CHUNK_BYTES) {
    pack(name, start, words);
    transform(state, words);
  }
  const hash = ((state[1] ?? 0) & ~1) >>> 0;
  return hash === END_OF_DIRECTORY ? BEFORE_END : hash;
};
