import type { TarVisitor } from "./entry.ts";
import { describeEntry, extend, noExtensions } from "./describe.ts";
import type { Extensions } from "./describe.ts";
import { TarError } from "./errors.ts";
import { TAR_BLOCK_BYTES, isZeroBlock, parseHeader } from "./header.ts";
import type { RawHeader } from "./header.ts";
import { MAX_EXTENDED_HEADER_BYTES, MAX_SPARSE_SEGMENTS } from "./limits.ts";
import { parsePax } from "./pax.ts";
import { Sparse1Map, checkSegments, isPaxSparse1, oldSparseExtension, oldSparseHeader, paddedLength, paxSparseMap } from "./sparse.ts";
import type { Segment } from "./sparse.ts";

/** Content that is being read: `stored` bytes are still to come; segments are null for an ordinary file. */
interface Body {
  readonly wanted: boolean;
  readonly fileBytes: number;
  readonly segments: readonly Segment[] | null;
  stored: number;
  index: number;
  position: number;
}

type State =
  | { readonly state: "header" }
  | { readonly state: "extension"; readonly header: RawHeader; readonly parts: Buffer[]; remaining: number }
  | { readonly state: "oldSparse"; readonly header: RawHeader; readonly fileBytes: number; readonly segments: Segment[] }
  | { readonly state: "sparse1"; readonly header: RawHeader; readonly map: Sparse1Map }
  | { readonly state: "body"; readonly body: Body }
  | { readonly state: "ended" };

/** Links, devices, directories and fifos have no content, whatever their size field says. */
const HEADER_ONLY = "123456";

const isBlockwise = (state: State): boolean => state.state === "header" || state.state === "oldSparse" || state.state === "sparse1";

/**
 * A push parser of tar streams: ustar, GNU (long names, sparse), PAX (path, linkpath, size, uid, gid, mtime, xattrs, sparse 0.0 to 1.0), star, v7.
 * `write` parses a chunk at once and calls the visitor synchronously; content is handed on as views of the chunk, without a copy.
 * Types without content by definition (links, devices, directories) have none here whatever their size field says, as in Go's archive/tar.
 * Global PAX headers are skipped. After the end marker all bytes are ignored.
 */
export class TarParser {
  readonly #visitor: TarVisitor;
  readonly #block = Buffer.alloc(TAR_BLOCK_BYTES);
  #blockFill = 0;
  #skip = 0;
  /** Bytes between the end of the current content and the next header. */
  #padding = 0;
  #offset = 0;
  /** Where the block or content that is being read begins. */
  #blockOffset = 0;
  #state: State = { state: "header" };
  #extensions: Extensions = noExtensions(0);

  constructor(visitor: TarVisitor) {
    this.#visitor = visitor;
  }

  /** Bytes taken so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Takes the next bytes. Throws TarError; a parser that has thrown is of no further use. */
  write(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const base = this.#offset;
    let at = 0;
    while (at < bytes.length) {
      at += this.#step(bytes, at);
      this.#offset = base + at;
    }
  }

  /** The stream is complete. A missing end marker is accepted, as by every tar. Throws TarError TRUNCATED or DANGLING. */
  end(): void {
    const whole = this.#state.state === "ended" || (this.#state.state === "header" && this.#blockFill === 0);
    if (!whole) throw new TarError("TRUNCATED", "the tar ends inside an entry", this.#offset);
    if (this.#skip > 0) throw new TarError("TRUNCATED", "the tar ends inside the padding of an entry", this.#offset);
    if (this.#extensions.pending) throw new TarError("DANGLING", "the tar ends after an extended header", this.#offset);
  }

  /** Consumes at least one byte of `bytes` from `at` on; returns how many. */
  #step(bytes: Buffer, at: number): number {
    const state = this.#state;
    const available = bytes.length - at;
    if (state.state === "ended") return available;
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, available);
      this.#skip -= skipped;
      return skipped;
    }
    if (state.state === "body") return this.#content(state.body, bytes.subarray(at, at + Math.min(state.body.stored, available)));
    if (state.state === "extension") return this.#extend(state, bytes.subarray(at, at + Math.min(state.remaining, available)));
    if (this.#blockFill === 0) this.#blockOffset = this.#offset;
    if (isBlockwise(state) && this.#blockFill === 0 && available >= TAR_BLOCK_BYTES) {
      this.#takeBlock(bytes.subarray(at, at + TAR_BLOCK_BYTES));
      return TAR_BLOCK_BYTES;
    }
    const taken = Math.min(TAR_BLOCK_BYTES - this.#blockFill, available);
    bytes.copy(this.#block, this.#blockFill, at, at + taken);
    this.#blockFill += taken;
    if (this.#blockFill === TAR_BLOCK_BYTES) {
      this.#blockFill = 0;
      this.#takeBlock(this.#block);
    }
    return taken;
  }

  #takeBlock(block: Buffer): void {
    const state = this.#state;
    if (state.state === "header") {
      this.#header(block);
    } else if (state.state === "oldSparse") {
      const part = oldSparseExtension(block, this.#blockOffset);
      state.segments.push(...part.segments);
      if (state.segments.length > MAX_SPARSE_SEGMENTS) throw new TarError("LIMIT", "a sparse map is too long", this.#blockOffset);
      if (!part.more) this.#begin(state.header, { segments: state.segments, fileBytes: state.fileBytes, storedBytes: state.header.size });
    } else if (state.state === "sparse1") {
      const segments = state.map.push(block);
      const storedBytes = this.#storedBytes(state.header) - state.map.lengthBytes;
      if (segments !== null) this.#begin(state.header, { segments, fileBytes: this.#sparseFileBytes(), storedBytes });
      else if (storedBytes <= 0) throw new TarError("SPARSE", "a sparse map is longer than its entry", this.#blockOffset);
    }
  }

  #header(block: Buffer): void {
    if (isZeroBlock(block)) {
      this.#state = { state: "ended" };
      return;
    }
    if (!this.#extensions.pending) this.#extensions = noExtensions(this.#blockOffset);
    const header = parseHeader(block, this.#blockOffset);
    if (header.size < 0) throw new TarError("NUMBER", "the size of an entry is negative", this.#blockOffset);
    if ("xgLK".includes(header.typeFlag)) {
      if (header.size > MAX_EXTENDED_HEADER_BYTES) throw new TarError("LIMIT", "an extended header is too long", this.#blockOffset);
      this.#state = { state: "extension", header, parts: [], remaining: header.size };
      if (header.size === 0) this.#extension(header, Buffer.alloc(0));
      return;
    }
    if (header.typeFlag === "V") {
      this.#skip = paddedLength(header.size);
      return;
    }
    this.#entry(header, block);
  }

  #entry(header: RawHeader, block: Buffer): void {
    const pax = this.#extensions.pax;
    if (header.typeFlag === "S") {
      const sparse = oldSparseHeader(block, this.#blockOffset);
      if (sparse.more) this.#state = { state: "oldSparse", header, fileBytes: sparse.fileBytes, segments: [...sparse.segments] };
      else this.#begin(header, { segments: sparse.segments, fileBytes: sparse.fileBytes, storedBytes: header.size });
      return;
    }
    if (pax !== null && isPaxSparse1(pax)) {
      this.#state = { state: "sparse1", header, map: new Sparse1Map(this.#blockOffset) };
      return;
    }
    const segments = pax === null ? null : paxSparseMap(pax, this.#blockOffset);
    const storedBytes = this.#storedBytes(header);
    this.#begin(header, { segments, fileBytes: segments === null ? storedBytes : this.#sparseFileBytes(), storedBytes });
  }

  #storedBytes(header: RawHeader): number {
    return this.#extensions.size ?? header.size;
  }

  #sparseFileBytes(): number {
    const size = this.#extensions.sparseFileBytes;
    if (size === null) throw new TarError("SPARSE", "a sparse file has no real size", this.#blockOffset);
    return size;
  }

  #begin(header: RawHeader, content: { segments: readonly Segment[] | null; fileBytes: number; storedBytes: number }): void {
    if (content.segments !== null) checkSegments(content.segments, content, this.#blockOffset);
    const entry = describeEntry(header, this.#extensions, content.fileBytes);
    this.#extensions = noExtensions(this.#blockOffset);
    const wanted = this.#visitor.entry(entry) && entry.type === "file";
    const stored = HEADER_ONLY.includes(header.typeFlag) ? 0 : content.storedBytes;
    const body: Body = { wanted, fileBytes: entry.sizeBytes, segments: content.segments, stored, index: 0, position: 0 };
    this.#state = { state: "body", body };
    if (stored === 0) this.#finishBody(body, 0);
    else this.#padding = paddedLength(stored) - stored;
  }

  #finishBody(body: Body, padding: number): void {
    if (body.wanted) {
      if (body.segments !== null && body.position < body.fileBytes) this.#visitor.hole(body.fileBytes - body.position);
      this.#visitor.end();
    }
    this.#skip = padding;
    this.#state = { state: "header" };
  }

  #content(body: Body, bytes: Buffer): number {
    if (body.wanted) {
      if (body.segments === null) this.#visitor.data(bytes);
      else this.#sparseContent(body, body.segments, bytes);
    }
    body.stored -= bytes.length;
    if (body.stored === 0) this.#finishBody(body, this.#padding);
    return bytes.length;
  }

  #sparseContent(body: Body, segments: readonly Segment[], bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      const segment = segments[body.index];
      if (segment === undefined) throw new TarError("SPARSE", "a sparse file has more content than its map", this.#blockOffset);
      if (body.position < segment.offset) {
        this.#visitor.hole(segment.offset - body.position);
        body.position = segment.offset;
      }
      const taken = Math.min(segment.offset + segment.length - body.position, bytes.length - at);
      if (taken > 0) this.#visitor.data(bytes.subarray(at, at + taken));
      at += taken;
      body.position += taken;
      if (body.position === segment.offset + segment.length) body.index += 1;
    }
  }

  #extend(state: Extract<State, { state: "extension" }>, bytes: Buffer): number {
    const padding = paddedLength(state.header.size) - state.header.size;
    state.parts.push(state.remaining === bytes.length && state.parts.length === 0 ? bytes : Buffer.from(bytes));
    state.remaining -= bytes.length;
    if (state.remaining === 0) {
      this.#extension(state.header, Buffer.concat(state.parts));
      this.#skip = padding;
    }
    return bytes.length;
  }

  #extension(header: RawHeader, bytes: Buffer): void {
    this.#state = { state: "header" };
    if (header.typeFlag === "g") return;
    const extensions = this.#extensions;
    if (header.typeFlag === "x") {
      this.#extensions = extend({ ...extensions, pending: true, pax: parsePax(bytes, this.#blockOffset) });
      return;
    }
    const end = bytes.indexOf(0);
    const name = bytes.toString("latin1", 0, end === -1 ? bytes.length : end);
    this.#extensions = extend({ ...extensions, pending: true, ...(header.typeFlag === "L" ? { longName: name } : { longLink: name }) });
  }
}
