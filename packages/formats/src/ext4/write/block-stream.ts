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
/** A run of at least this length is not worth a copy. */
const DIRECT_BYTES = 256 << 10;

/** Looks at the first byte first: it settles nearly all blocks. */
const isZeroBlock = (bytes: Uint8Array, at: number): boolean => bytes[at] === 0 && ZERO_BLOCK.compare(bytes, at, at + BLOCK_BYTES) === 0;

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
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
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
      const left = bytes.length - at;
      if (this.#partial === 0 && left >= BLOCK_BYTES) {
        at += this.#appendBlocks(bytes, at);
        continue;
      }
      const taken = Math.min(BLOCK_BYTES - this.#partial, left);
      this.#buffer.set(taken === bytes.length ? bytes : bytes.subarray(at, at + taken), this.#fill + this.#partial);
      this.#partial += taken;
      at += taken;
      if (this.#partial === BLOCK_BYTES) this.#finishBlock();
    }
    this.#sizeBytes += bytes.length;
  }

  /** Takes the whole blocks of content from `at` on that are stored one behind the other, or one block of zeros. Returns how many bytes. */
  #appendBlocks(bytes: Uint8Array, at: number): number {
    if (isZeroBlock(bytes, at)) {
      this.#logical += 1;
      return BLOCK_BYTES;
    }
    const whole = bytes.length - ((bytes.length - at) % BLOCK_BYTES);
    let end = at + BLOCK_BYTES;
    while (end < whole && !isZeroBlock(bytes, end)) end += BLOCK_BYTES;
    if (end - at < DIRECT_BYTES) end = Math.min(end, at + BUFFER_BYTES - this.#fill);
    this.#map((end - at) / BLOCK_BYTES, this.#store(bytes.subarray(at, end)));
    return end - at;
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
    return this.#take(1);
  }

  /** Gives the sink what is buffered: whole blocks, none of a file that has not ended. */
  flush(): void {
    if (this.#fill > 0) this.#handOver(this.#bufferBlock * BLOCK_BYTES);
    this.#bufferBlock += this.#fill / BLOCK_BYTES;
    this.#fill = 0;
  }

  #handOver(offset: number): void {
    if (this.#sink.exchange === undefined) this.#sink.write(offset, this.#buffer.subarray(0, this.#fill));
    else this.#buffer = this.#sink.exchange(offset, this.#buffer, this.#fill);
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

  #finishBlock(): void {
    this.#partial = 0;
    if (isZeroBlock(this.#buffer, this.#fill)) this.#logical += 1;
    else this.#map(1, this.#take(1));
  }

  /** The next `count` blocks of the file lie from `physical` on. */
  #map(count: number, physical: number): void {
    for (let done = 0; done < count;) {
      const last = this.#extents.at(-1);
      const follows = last !== undefined && last.logical + last.count === this.#logical && last.physical + last.count === physical + done;
      const extent = follows && last.count < MAX_EXTENT_BLOCKS ? last : this.#startExtent(physical + done);
      const taken = Math.min(count - done, MAX_EXTENT_BLOCKS - extent.count);
      extent.count += taken;
      this.#logical += taken;
      done += taken;
    }
  }

  #startExtent(physical: number): MutableExtent {
    this.#extentCount += 1;
    if (this.#extentCount > MAX_EXTENTS) throw new Ext4Error("TOO_LARGE", `the files have more than ${MAX_EXTENTS} extents`);
    const extent = { logical: this.#logical, physical, count: 0 };
    this.#extents.push(extent);
    return extent;
  }

  /** Stores whole blocks and returns the number of the first: long runs go to the sink as they are, others by way of the buffer. */
  #store(blocks: Uint8Array): number {
    if (blocks.length < DIRECT_BYTES) {
      this.#buffer.set(blocks, this.#fill);
      return this.#take(blocks.length / BLOCK_BYTES);
    }
    this.flush();
    const first = this.#reserve(blocks.length / BLOCK_BYTES);
    this.#sink.write(first * BLOCK_BYTES, blocks);
    this.#bufferBlock += blocks.length / BLOCK_BYTES;
    return first;
  }

  /** The next `count` blocks, which are in the buffer already. */
  #take(count: number): number {
    const first = this.#reserve(count);
    this.#fill += count * BLOCK_BYTES;
    if (this.#fill === BUFFER_BYTES) this.flush();
    return first;
  }

  #reserve(count: number): number {
    const first = this.nextBlock;
    if (first + count > this.#maxBlocks)
      throw new Ext4Error("TOO_LARGE", `the file system needs more than ${this.#maxBlocks * BLOCK_BYTES} bytes`);
    return first;
  }
}
