/** Repeatable randomness (xorshift128, Marsaglia 2003): one seed, one sequence. */
export class Dice {
  #state: [number, number, number, number];

  constructor(seed: number) {
    this.#state = [seed >>> 0 || 1, 0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35];
    for (let round = 0; round < 16; round += 1) this.next();
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    const [x, y, z, w] = this.#state;
    const mixed = x ^ (x << 11);
    const value = (w ^ (w >>> 19) ^ mixed ^ (mixed >>> 8)) >>> 0;
    this.#state = [y, z, w, value];
    return value;
  }

  /** 0 to `end` - 1; 0 for an `end` of 0. */
  below(end: number): number {
    return end <= 1 ? 0 : Math.floor((this.next() / 2 ** 32) * end);
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<Value>(values: readonly [Value, ...Value[]]): Value {
    return values[this.below(values.length)] ?? values[0];
  }
}
