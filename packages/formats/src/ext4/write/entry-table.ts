import type { RawName } from "../../tar/index.ts";
import type { Extent } from "../disk/extents.ts";
import { Ext4Error } from "../errors.ts";
import type { FileContent } from "./block-stream.ts";
import type { NodeMetadata } from "./node.ts";

/** Names an entry in the table. */
export type EntryId = number;

const ROW_BYTES = 48;
/** A table grows by pieces, so that it is never copied. */
const ROWS_IN_PIECE = 4096;
const AT = {
  seconds: 0,
  sizeBytes: 8,
  nanoseconds: 16,
  uid: 20,
  gid: 24,
  physical: 28,
  blocks: 32,
  mode: 36,
  content: 38,
  layer: 40,
} as const;
const CONTENT = { missing: 0, oneExtent: 1, manyExtents: 2 } as const;
const EXTENT_WORDS = 3;

/** Extents in twelve bytes each: block numbers of an image fit into 32 bits. */
const packExtents = (extents: readonly Extent[]): Uint32Array => {
  const packed = new Uint32Array(extents.length * EXTENT_WORDS);
  for (const [index, { logical, physical, count }] of extents.entries()) packed.set([logical, physical, count], index * EXTENT_WORDS);
  return packed;
};

const unpackExtents = (packed: Uint32Array): Extent[] =>
  Array.from({ length: packed.length / EXTENT_WORDS }, (_, index) => {
    const [logical = 0, physical = 0, count = 0] = packed.subarray(index * EXTENT_WORDS, (index + 1) * EXTENT_WORDS);
    return { logical, physical, count };
  });

/** Values as a parser hands them out are views of blocks of 64 KiB: one of four bytes would keep the whole block in memory. */
const ownCopy = (xattrs: ReadonlyMap<RawName, Uint8Array>): ReadonlyMap<RawName, Uint8Array> =>
  new Map(Array.from(xattrs, ([name, value]) => [name, new Uint8Array(value)]));

/**
 * What all layers say of their entries, and where the content of files lies, in rows of bytes: there can be millions, and as objects each
 * would take ten times as much.
 */
export class EntryTable {
  readonly #pieces: DataView[] = [];
  readonly #xattrs = new Map<EntryId, ReadonlyMap<RawName, Uint8Array>>();
  readonly #extents = new Map<EntryId, Uint32Array>();
  #length = 0;

  /** Ids are below it. */
  get length(): number {
    return this.#length;
  }

  add(metadata: NodeMetadata, layer: number): EntryId {
    const id = this.#length;
    this.#length += 1;
    if (id % ROWS_IN_PIECE === 0) this.#pieces.push(new DataView(new ArrayBuffer(ROWS_IN_PIECE * ROW_BYTES)));
    const { view, row } = this.#find(id);
    view.setFloat64(row + AT.seconds, metadata.modifiedAt.seconds);
    view.setUint32(row + AT.nanoseconds, metadata.modifiedAt.nanoseconds);
    view.setUint32(row + AT.uid, metadata.uid);
    view.setUint32(row + AT.gid, metadata.gid);
    view.setUint16(row + AT.mode, metadata.mode);
    view.setUint32(row + AT.layer, layer);
    if (metadata.xattrs.size > 0) this.#xattrs.set(id, ownCopy(metadata.xattrs));
    return id;
  }

  /** The layer that has it. */
  layer(id: EntryId): number {
    const { view, row } = this.#find(id);
    return view.getUint32(row + AT.layer);
  }

  xattrs(id: EntryId): ReadonlyMap<RawName, Uint8Array> {
    return this.#xattrs.get(id) ?? NO_XATTRS;
  }

  metadata(id: EntryId): NodeMetadata {
    const { view, row } = this.#find(id);
    return {
      mode: view.getUint16(row + AT.mode),
      uid: view.getUint32(row + AT.uid),
      gid: view.getUint32(row + AT.gid),
      modifiedAt: { seconds: view.getFloat64(row + AT.seconds), nanoseconds: view.getUint32(row + AT.nanoseconds) },
      xattrs: this.xattrs(id),
    };
  }

  setContent(id: EntryId, content: FileContent): void {
    const { view, row } = this.#find(id);
    const [first, ...more] = content.extents;
    view.setFloat64(row + AT.sizeBytes, content.sizeBytes);
    if (more.length > 0 || (first !== undefined && first.logical > 0)) {
      view.setUint8(row + AT.content, CONTENT.manyExtents);
      this.#extents.set(id, packExtents(content.extents));
      return;
    }
    view.setUint8(row + AT.content, CONTENT.oneExtent);
    view.setUint32(row + AT.physical, first?.physical ?? 0);
    view.setUint32(row + AT.blocks, first?.count ?? 0);
  }

  hasContent(id: EntryId): boolean {
    const { view, row } = this.#find(id);
    return view.getUint8(row + AT.content) !== CONTENT.missing;
  }

  /** Whether it lies in one run of blocks, or none. */
  isInOnePiece(id: EntryId): boolean {
    return !this.#extents.has(id);
  }

  /** Throws Ext4Error LAYER_CHANGED where it was not set. */
  content(id: EntryId): FileContent {
    const { view, row } = this.#find(id);
    if (view.getUint8(row + AT.content) === CONTENT.missing) throw new Ext4Error("LAYER_CHANGED", "the content of a file was not read");
    const sizeBytes = view.getFloat64(row + AT.sizeBytes);
    const packed = this.#extents.get(id);
    if (packed !== undefined) return { sizeBytes, extents: unpackExtents(packed) };
    const count = view.getUint32(row + AT.blocks);
    return { sizeBytes, extents: count === 0 ? [] : [{ logical: 0, physical: view.getUint32(row + AT.physical), count }] };
  }

  #find(id: EntryId): { readonly view: DataView; readonly row: number } {
    const view = this.#pieces[Math.floor(id / ROWS_IN_PIECE)];
    if (view === undefined) throw new RangeError(`there is no entry ${id}`);
    return { view, row: (id % ROWS_IN_PIECE) * ROW_BYTES };
  }
}

const NO_XATTRS: ReadonlyMap<RawName, Uint8Array> = new Map();
