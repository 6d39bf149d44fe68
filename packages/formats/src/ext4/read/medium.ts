import { Ext4ReadError } from "./errors.ts";
import { METADATA_CACHE_CHUNKS, METADATA_CHUNK_BYTES } from "./limits.ts";

/** Where an image can be read at any place: a file, a block device, memory. */
export interface ByteSource {
  readonly sizeBytes: number;
  /** Exactly `length` bytes at `offset`, throws past the end. What it throws is passed on. The bytes are the reader's: they do not change later. */
  read(offset: number, length: number): Uint8Array;
}

/** The newest committed content of a block, where the journal has it. */
export interface JournalCopy {
  /** The block of the medium in which it lies. */
  readonly block: number;
  /** Its first four bytes are the journal's magic number, and are stored as zeros. */
  readonly escaped: boolean;
}

export type JournalCopies = ReadonlyMap<number, JournalCopy>;

const NO_COPIES: JournalCopies = new Map();
const JOURNAL_MAGIC = 0xc03b_3998;
/** What is at most this part of a chunk is read with the chunk. */
const SMALL_PARTS = 4;

export interface BlockGeometry {
  readonly blockBytes: number;
  readonly blockCount: number;
}

/** The blocks of a file system, as they are once its journal has been replayed. */
export class Medium {
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly #source: ByteSource;
  readonly #copies: JournalCopies;
  /** The least recently used comes first. */
  readonly #chunks = new Map<number, Buffer>();
  readonly #chunkBlocks: number;
  /** Where the blocks that were read last end. */
  #end = 0;
  #lastIndex = -1;
  #last: Buffer = Buffer.alloc(0);

  constructor(source: ByteSource, { blockBytes, blockCount }: BlockGeometry, copies: JournalCopies = NO_COPIES) {
    this.#source = source;
    this.blockBytes = blockBytes;
    this.blockCount = blockCount;
    this.#copies = copies;
    this.#chunkBlocks = Math.max(1, METADATA_CHUNK_BYTES / blockBytes);
  }

  /** One block, cached. It is a view that others see too: never written to. Throws Ext4ReadError BLOCK_MAP for a block out of the file system. */
  block(block: number): Buffer {
    if (!Number.isInteger(block) || block < 0 || block >= this.blockCount)
      throw new Ext4ReadError("BLOCK_MAP", `block ${block} is out of the file system's ${this.blockCount}`);
    const index = Math.floor(block / this.#chunkBlocks);
    const at = (block - index * this.#chunkBlocks) * this.blockBytes;
    return this.#chunk(index).subarray(at, at + this.blockBytes);
  }

  /**
   * `count` blocks from `first` on. Few blocks that follow those before come with their neighbours, which are most likely the next;
   * others are read alone. The caller has checked that they are in the file system.
   */
  blocks(first: number, count: number): Buffer {
    const index = Math.floor(first / this.#chunkBlocks);
    const place = first - index * this.#chunkBlocks;
    const ahead = first - this.#end;
    this.#end = first + count;
    const isSmall = count * SMALL_PARTS <= this.#chunkBlocks && place + count <= this.#chunkBlocks;
    if (!isSmall || (index !== this.#lastIndex && (ahead < 0 || ahead > this.#chunkBlocks))) return this.#fresh(first, count);
    return this.#chunk(index).subarray(place * this.blockBytes, (place + count) * this.blockBytes);
  }

  #fresh(first: number, count: number): Buffer {
    const bytes = this.#read(first, count);
    return this.#copies.size === 0 ? bytes : this.#patched(bytes, first, count);
  }

  #chunk(index: number): Buffer {
    if (index === this.#lastIndex) return this.#last;
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      const first = index * this.#chunkBlocks;
      chunk = this.#fresh(first, Math.min(this.#chunkBlocks, this.blockCount - first));
      if (this.#chunks.size >= METADATA_CACHE_CHUNKS) this.#forgetOldest();
    } else {
      this.#chunks.delete(index);
    }
    this.#chunks.set(index, chunk);
    this.#lastIndex = index;
    this.#last = chunk;
    return chunk;
  }

  #forgetOldest(): void {
    for (const oldest of this.#chunks.keys()) {
      this.#chunks.delete(oldest);
      return;
    }
  }

  #patched(bytes: Buffer, first: number, count: number): Buffer {
    let out: Buffer | null = null;
    for (let index = 0; index < count; index += 1) {
      const copy = this.#copies.get(first + index);
      if (copy === undefined) continue;
      out ??= Buffer.from(bytes);
      const at = index * this.blockBytes;
      out.set(this.#read(copy.block, 1), at);
      if (copy.escaped) out.writeUInt32BE(JOURNAL_MAGIC, at);
    }
    return out ?? bytes;
  }

  #read(first: number, count: number): Buffer {
    const length = count * this.blockBytes;
    const bytes = this.#source.read(first * this.blockBytes, length);
    if (bytes.length !== length)
      throw new Ext4ReadError("MEDIUM", `the medium gave ${bytes.length} of the ${length} bytes from block ${first} on`);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}
