import { KernelFormatError } from "./errors.ts";

/** LZ4's legacy frame, which the kernel's build writes with `lz4 -l` (lz4_Frame_format.md, "Legacy frame"; lz4_Block_format.md). */

export const LZ4_LEGACY_MAGIC = 0x184c_2102;
/** What one block unpacks to at most, by the format. */
const BLOCK_BYTES = 8 * 2 ** 20;
const MIN_MATCH = 4;

const damaged = (what: string): KernelFormatError => new KernelFormatError("INVALID", `the LZ4 data are damaged: ${what}`);

/** Unpacks a whole frame into `size` bytes, neither more nor fewer. Throws KernelFormatError INVALID. */
export const unpackLz4Legacy = (frame: Uint8Array, size: number): Uint8Array => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 4 || view.getUint32(0, true) !== LZ4_LEGACY_MAGIC) throw damaged("there is no legacy frame");
  const output = new Uint8Array(size);
  let [from, to] = [4, 0];
  while (from + 4 <= frame.length) {
    const length = view.getUint32(from, true);
    from += 4;
    // frames may follow each other
    if (length === LZ4_LEGACY_MAGIC) continue;
    if (length > frame.length - from) throw damaged(`a block of ${length} bytes is cut off`);
    const block = new Block(frame.subarray(from, from + length), output, to);
    to = block.unpack(Math.min(size, to + BLOCK_BYTES));
    from += length;
  }
  if (from !== frame.length) throw damaged("bytes are left at the end");
  if (to !== size) throw damaged(`they unpack to ${to} of ${size} bytes`);
  return output;
};

/** One block; matches may not reach before its start. */
class Block {
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  readonly #start: number;
  #from = 0;

  constructor(input: Uint8Array, output: Uint8Array, start: number) {
    this.#input = input;
    this.#output = output;
    this.#start = start;
  }

  /** Returns where the output ends. */
  unpack(end: number): number {
    const input = this.#input;
    const output = this.#output;
    let to = this.#start;
    while (this.#from < input.length) {
      const token = this.#byte();
      const literals = this.#length(token >> 4);
      if (literals > input.length - this.#from || literals > end - to) throw damaged("literals reach beyond the end");
      if (literals < 16) for (let n = 0; n < literals; n += 1) output[to + n] = input[this.#from + n] ?? 0;
      else output.set(input.subarray(this.#from, this.#from + literals), to);
      this.#from += literals;
      to += literals;
      if (this.#from === input.length) return to;
      const distance = this.#byte() | (this.#byte() << 8);
      const length = this.#length(token & 15) + MIN_MATCH;
      if (distance === 0 || distance > to - this.#start) throw damaged("a match reaches before the start");
      if (length > end - to) throw damaged("a match reaches beyond the end");
      if (distance >= length && length > 32) output.copyWithin(to, to - distance, to - distance + length);
      else for (let n = to; n < to + length; n += 1) output[n] = output[n - distance] ?? 0;
      to += length;
    }
    return to;
  }

  #byte(): number {
    const byte = this.#input[this.#from];
    if (byte === undefined) throw damaged("a block is cut off");
    this.#from += 1;
    return byte;
  }

  #length(nibble: number): number {
    if (nibble !== 15) return nibble;
    let length = 15;
    for (;;) {
      const byte = this.#byte();
      length += byte;
      if (byte !== 255) return length;
    }
  }
}
