/** Randomness as a port: ids, jitter and seeds are drawn through it, so that a simulation can replay them. */
export interface RandomSource {
  /** `count` fresh bytes. */
  bytes(count: number): Uint8Array;
}

/** The most that one getRandomValues call may ask for, by the Web Cryptography API. */
const LARGEST_DRAW_BYTES = 65_536;

/** Ids are drawn one by one, and a draw costs the same for one byte as for this many. */
const POOL_BYTES = 4096;
const POOLED_BYTES = 64;
const pool = new Uint8Array(POOL_BYTES);
let poolAt = POOL_BYTES;

/** Bytes that nobody else gets: the pool forgets what it gives away. */
const drawFromPool = (count: number): Uint8Array => {
  if (poolAt + count > POOL_BYTES) {
    globalThis.crypto.getRandomValues(pool);
    poolAt = 0;
  }
  const drawn = pool.slice(poolAt, poolAt + count);
  pool.fill(0, poolAt, poolAt + count);
  poolAt += count;
  return drawn;
};

/** The cryptographic random source of the platform. */
export const systemRandom: RandomSource = {
  bytes(count) {
    if (count <= POOLED_BYTES) return drawFromPool(count);
    const drawn = new Uint8Array(count);
    for (let at = 0; at < count; at += LARGEST_DRAW_BYTES) {
      globalThis.crypto.getRandomValues(drawn.subarray(at, at + LARGEST_DRAW_BYTES));
    }
    return drawn;
  },
};

/** A source that draws the same bytes for the same seed (mulberry32). For tests and simulation: it is predictable. */
export function seededRandom(seed: number): RandomSource {
  let state = seed >>> 0;
  const word = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return { bytes: (count) => Uint8Array.from({ length: count }, () => word() >>> 24) };
}

/** `bytes` random bytes as lower-case hex, two digits each. */
export function randomHex(random: RandomSource, bytes: number): string {
  let hex = "";
  for (const byte of random.bytes(bytes)) hex += byte.toString(16).padStart(2, "0");
  return hex;
}

/** A random number in [0, 1), of 32 bits. */
export function randomFraction(random: RandomSource): number {
  let drawn = 0;
  for (const byte of random.bytes(4)) drawn = drawn * 256 + byte;
  return drawn / 2 ** 32;
}
