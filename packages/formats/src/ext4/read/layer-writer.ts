import { TAR_END_BYTES, encodeEntry, paddingAfter, rawNameText } from "../../tar/index.ts";
import type { RawName, TarEntryType, TarTime, WrittenEntry } from "../../tar/index.ts";
import { Ext4ReadError } from "./errors.ts";
import type { Ext4Inode } from "./inode.ts";
import type { Meter } from "./limits.ts";
import type { Ext4Reader } from "./reader.ts";
import { planStretches } from "./sparse-file.ts";
import type { Stretch } from "./sparse-file.ts";
import type { Ext4Entry } from "./walk.ts";

const WHITEOUT_PREFIX = ".wh.";
const OPAQUE_NAME = ".wh..wh..opq";
/** As chown has it, "leave it as it is": Linux lets nobody own a file, and tars are refused with it. */
const NOBODY = 0xffff_ffff;
const MAX_NAME_BYTES = 255;
const WHITEOUT_MODE = 0;
const NO_TIME: TarTime = { seconds: 0, nanoseconds: 0 };
const NO_XATTRS: ReadonlyMap<RawName, Uint8Array> = new Map();
/** What a hard link's first path costs in memory besides its bytes. */
const LINK_COST_BYTES = 96;
const ZEROS = new Uint8Array(65_536);

export type Xattrs = ReadonlyMap<RawName, Uint8Array>;

const childPath = (path: RawName, name: RawName): RawName => (path === "" ? name : `${path}/${name}`);

/** The root is "./", as tar writes it. */
const tarPath = (path: RawName, type: TarEntryType): RawName => (path === "" ? "./" : type === "directory" ? `${path}/` : path);

const typeOf = ({ path, inode }: Ext4Entry): TarEntryType => {
  if (inode.type !== "socket") return inode.type;
  throw new Ext4ReadError("NOT_REPRESENTABLE", `${rawNameText(`/${path}`)} is a socket, and a tar knows none`);
};

/** In a layer such a name takes a file away, or is dropped. */
const checkName = ({ path, name }: Ext4Entry): void => {
  if (name.startsWith(WHITEOUT_PREFIX))
    throw new Ext4ReadError("NOT_REPRESENTABLE", `${rawNameText(`/${path}`)} has a name that means a deletion in a layer`);
};

/** Writes the entries of one layer tar. The same entries give the same bytes. */
export class LayerWriter {
  readonly #reader: Ext4Reader;
  readonly #meter: Meter;
  readonly #firstPaths = new Map<number, RawName>();
  /** Blocks that are claimed by more than one file could make a tar of any size out of a small image. */
  #contentLeft: number;

  constructor(reader: Ext4Reader, meter: Meter) {
    this.#reader = reader;
    this.#meter = meter;
    this.#contentLeft = reader.blockCount * reader.blockBytes;
  }

  /** Sockets have no place in a tar and mean nothing without their process: as tar does, the caller leaves them out. */
  *entry(entry: Ext4Entry, xattrs: Xattrs): Generator<Uint8Array> {
    checkName(entry);
    const type = typeOf(entry);
    const { inode } = entry;
    const first = this.#firstPaths.get(inode.number);
    if (first !== undefined) {
      yield encodeEntry(this.#header(entry, "hardlink", { linkPath: first, xattrs }));
      return;
    }
    if (inode.links > 1 && type !== "directory") {
      this.#meter.hold(entry.path.length + LINK_COST_BYTES);
      this.#firstPaths.set(inode.number, entry.path);
    }
    if (type === "file") yield* this.#file(entry, xattrs);
    else yield encodeEntry(this.#header(entry, type, { linkPath: type === "symlink" ? this.#target(inode) : "", xattrs }));
  }

  /** What lower layers have at `path` is gone. */
  *whiteout(entry: Ext4Entry): Generator<Uint8Array> {
    checkName(entry);
    const parent = entry.path.slice(0, Math.max(0, entry.path.length - entry.name.length - 1));
    const name = `${WHITEOUT_PREFIX}${entry.name}`;
    if (name.length > MAX_NAME_BYTES)
      throw new Ext4ReadError(
        "NOT_REPRESENTABLE",
        `${rawNameText(`/${entry.path}`)} is deleted, but its name is too long for a layer to say so`,
      );
    yield this.#marker(childPath(parent, name));
  }

  /** What lower layers have below the directory is gone. */
  *opaque(directory: Ext4Entry): Generator<Uint8Array> {
    yield this.#marker(childPath(directory.path, OPAQUE_NAME));
  }

  *end(): Generator<Uint8Array> {
    yield Buffer.alloc(TAR_END_BYTES);
  }

  #marker(path: RawName): Uint8Array {
    return encodeEntry({
      type: "file",
      path,
      linkPath: "",
      mode: WHITEOUT_MODE,
      uid: 0,
      gid: 0,
      sizeBytes: 0,
      modifiedAt: NO_TIME,
      deviceMajor: 0,
      deviceMinor: 0,
      xattrs: NO_XATTRS,
      segments: null,
    });
  }

  #header({ path, inode }: Ext4Entry, type: TarEntryType, more: { linkPath: RawName; xattrs: Xattrs }): WrittenEntry {
    if (inode.type === "character" && inode.rdev.major === 0 && inode.rdev.minor === 0)
      throw new Ext4ReadError(
        "NOT_REPRESENTABLE",
        `${rawNameText(`/${path}`)} is a 0:0 character device, which means a deletion in a layer`,
      );
    if (inode.uid === NOBODY || inode.gid === NOBODY)
      throw new Ext4ReadError("NOT_REPRESENTABLE", `${rawNameText(`/${path}`)} has the owner -1, which is none`);
    return {
      type,
      path: tarPath(path, type),
      linkPath: more.linkPath,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      sizeBytes: type === "file" ? inode.sizeBytes : 0,
      modifiedAt: inode.mtime,
      deviceMajor: inode.rdev.major,
      deviceMinor: inode.rdev.minor,
      xattrs: more.xattrs,
      segments: null,
    };
  }

  #target(link: Ext4Inode): RawName {
    return Buffer.from(this.#reader.readLink(link, this.#meter)).toString("latin1");
  }

  *#file(entry: Ext4Entry, xattrs: Xattrs): Generator<Uint8Array> {
    const { inode } = entry;
    const stretches = planStretches(this.#reader.stretches(inode, this.#meter), inode);
    yield encodeEntry({ ...this.#header(entry, "file", { linkPath: "", xattrs }), segments: stretches });
    yield* stretches === null ? this.#whole(inode) : this.#data(inode);
    yield paddingAfter(storedBytes(inode, stretches));
  }

  #count(inode: Ext4Inode, bytes: number): void {
    this.#contentLeft -= bytes;
    if (this.#contentLeft < 0)
      throw new Ext4ReadError("LIMIT", `the files up to inode ${inode.number} have more content than the file system has blocks`);
  }

  *#data(inode: Ext4Inode): Generator<Uint8Array> {
    for (const { bytes } of this.#reader.content(inode, this.#meter)) {
      this.#count(inode, bytes.length);
      yield bytes;
    }
  }

  *#whole(inode: Ext4Inode): Generator<Uint8Array> {
    let position = 0;
    for (const { offset, bytes } of this.#reader.content(inode, this.#meter)) {
      yield* zeros(offset - position);
      this.#count(inode, bytes.length);
      yield bytes;
      position = offset + bytes.length;
    }
    yield* zeros(inode.sizeBytes - position);
  }
}

const storedBytes = (inode: Ext4Inode, stretches: readonly Stretch[] | null): number =>
  stretches === null ? inode.sizeBytes : stretches.reduce((sum, { length }) => sum + length, 0);

function* zeros(length: number): Generator<Uint8Array> {
  for (let left = length; left > 0; left -= ZEROS.length) yield left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS;
}

const BATCH_BYTES = 262_144;
/** What is shorter is copied into a batch: 13,000 files are 40,000 pieces, and each costs its consumer more than the copy. */
const SHORT_BYTES = 65_536;

/** The same bytes in fewer pieces. Each is the consumer's to keep. */
export function* inBatches(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  let batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
  let fill = 0;
  for (const piece of pieces) {
    const isLong = piece.length >= SHORT_BYTES;
    if (fill > 0 && (isLong || fill + piece.length > BATCH_BYTES)) {
      yield batch.subarray(0, fill);
      batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
      fill = 0;
    }
    if (isLong) {
      yield piece;
    } else {
      batch.set(piece, fill);
      fill += piece.length;
    }
  }
  if (fill > 0) yield batch.subarray(0, fill);
}
