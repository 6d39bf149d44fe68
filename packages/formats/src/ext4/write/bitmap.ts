/** The bits of a whole file system, one group's block of bits behind the other. */
export class Bitmap {
  readonly bytes: Buffer;

  /** `bits` is a multiple of 8. All bits are clear. */
  constructor(bits: number) {
    this.bytes = Buffer.alloc(bits / 8);
  }

  setRange(start: number, end: number): void {
    let at = start;
    for (; at < end && (at & 7) !== 0; at += 1) this.#change(at, 1);
    const whole = end - ((end - at) & 7);
    if (whole > at) this.bytes.fill(0xff, at / 8, whole / 8);
    for (at = Math.max(at, whole); at < end; at += 1) this.#change(at, 1);
  }

  clearRange(start: number, end: number): void {
    for (let at = start; at < end; at += 1) this.#change(at, 0);
  }

  /** How many of the bits from `start` (a multiple of 8) to `end` are clear. */
  countClear(start: number, end: number): number {
    let clear = 0;
    for (let at = start; at < end; at += 1) {
      if ((at & 7) === 0 && at + 8 <= end) {
        const byte = this.bytes[at >>> 3] ?? 0;
        if (byte === 0xff || byte === 0) {
          clear += byte === 0 ? 8 : 0;
          at += 7;
          continue;
        }
      }
      if (((this.bytes[Math.floor(at / 8)] ?? 0) & (1 << (at & 7))) === 0) clear += 1;
    }
    return clear;
  }

  #change(bit: number, value: 0 | 1): void {
    const byte = Math.floor(bit / 8);
    const mask = 1 << (bit & 7);
    const old = this.bytes[byte] ?? 0;
    this.bytes[byte] = value === 1 ? old | mask : old & ~mask;
  }
}
