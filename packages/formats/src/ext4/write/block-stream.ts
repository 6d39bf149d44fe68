import { BLOCK_BYTES } from "../disk/constants.ts";
import { MAX_EXTENT_BLOCKS } from "../disk/extents.ts";
import type { Extent } from "../disk/extents.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";

/** Blocks go to the sink in pieces of this size: large enough that the calls cost nothing, small enough to stay in the cache. */
const BUFFER_BYTES = 1 << 20;
/** All extents of an image are kept until its end. More than this are files made of holes. */
const MAX_EXTENTS = 16_000_000;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** The content of one file as it lies on the disk. */
export interface FileContent {
  readonly sizeBytes: number;
  readonly extents: readonly Extent[];
}

interface MutableExtent extends Extent {
  count: number;
}

/**
 * Allocates blocks one behind the other and writes them in one forward pass.
 * File content comes through `append`, `hole` and `endFile`; blocks of metadata through `appendBlock`. Blocks of zeros become holes.
 */
export class BlockStream {
  readonly #sink: Sink;
  readonly #maxBlocks: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  /** Number of the block at the start of the buffer. */
  #bufferBlock: number;
  /** Bytes of whole blocks in the buffer; the file's unfinished block lies behind them. */
  #fill = 0;
  #partial = 0;
  #sizeBytes = 0;
  #logical = 0;
  #extentCount = 0;
  #extents: MutableExtent[] = [];

  /** Blocks are allocated from `firstBlock` on, and none at or behind `maxBlocks`: then `append` and `appendBlock` throw Ext4Error TOO_LARGE. */
  constructor(sink: Sink, limits: { firstBlock: number; maxBlocks: number }) {
    this.#sink = sink;
    this.#bufferBlock = limits.firstBlock;
    this.#maxBlocks = limits.maxBlocks;
  }

  /** The number that the next block gets. */
  get nextBlock(): number {
    return this.#bufferBlock + this.#fill / BLOCK_BYTES;
  }

  append(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const taken = Math.min(BLOCK_BYTES - this.#partial, bytes.length - at);
      this.#buffer.set(taken === bytes.length ? bytes : bytes.subarray(at, at + taken), this.#fill + this.#partial);
      this.#partial += taken;
      at += taken;
      if (this.#partial === BLOCK_BYTES) this.#finishBlock();
    }
    this.#sizeBytes += bytes.length;
  }

  /** The next `lengthBytes` of the file are zero. */
  hole(lengthBytes: number): void {
    let left = lengthBytes;
    if (this.#partial > 0) left -= this.#padBlock(Math.min(left, BLOCK_BYTES - this.#partial));
    this.#logical += Math.floor(left / BLOCK_BYTES);
    this.#padBlock(left % BLOCK_BYTES);
    this.#sizeBytes += lengthBytes;
  }

  endFile(): FileContent {
    if (this.#partial > 0) this.#padBlock(BLOCK_BYTES - this.#partial);
    const content = { sizeBytes: this.#sizeBytes, extents: this.#extents };
    this.#sizeBytes = 0;
    this.#logical = 0;
    this.#extents = [];
    return content;
  }

  /** Stores one whole block, of whatever content, and returns its number. Not inside a file. */
  appendBlock(block: Uint8Array): number {
    this.#buffer.set(block, this.#fill);
    return this.#takeBlock();
  }

  /** Gives the sink what is buffered. */
  flush(): void {
    if (this.#fill > 0) this.#sink.write(this.#bufferBlock * BLOCK_BYTES, this.#buffer.subarray(0, this.#fill));
    this.#bufferBlock += this.#fill / BLOCK_BYTES;
    this.#fill = 0;
  }

  #padBlock(lengthBytes: number): number {
    if (lengthBytes > 0) {
      const start = this.#fill + this.#partial;
      this.#buffer.fill(0, start, start + lengthBytes);
      this.#partial += lengthBytes;
      if (this.#partial === BLOCK_BYTES) this.#finishBlock();
    }
    return lengthBytes;
  }

  #isZero(): boolean {
    const start = this.#fill;
    return this.#buffer[start] === 0 && this.#buffer.compare(ZERO_BLOCK, 0, BLOCK_BYTES, start, start + BLOCK_BYTES) === 0;
  }

  #finishBlock(): void {
    this.#partial = 0;
    if (!this.#isZero()) this.#extend(this.#takeBlock());
    this.#logical += 1;
  }

  #extend(physical: number): void {
    const last = this.#extents.at(-1);
    const follows = last !== undefined && last.logical + last.count === this.#logical && last.physical + last.count === physical;
    if (follows && last.count < MAX_EXTENT_BLOCKS) last.count += 1;
    else this.#startExtent(physical);
  }

  #startExtent(physical: number): void {
    this.#extentCount += 1;
    if (this.#extentCount > MAX_EXTENTS) throw new Ext4Error("TOO_LARGE", `the files have more than ${MAX_EXTENTS} extents`);
    this.#extents.push({ logical: this.#logical, physical, count: 1 });
  }

  #takeBlock(): number {
    const block = this.nextBlock;
    if (block >= this.#maxBlocks)
      throw new Ext4Error("TOO_LARGE", `the file system needs more than ${this.#maxBlocks * BLOCK_BYTES} bytes`);
    this.#fill += BLOCK_BYTES;
    if (this.#fill === BUFFER_BYTES) this.flush();
    return block;
  }
}
