import type { RawName } from "../../tar/index.ts";
import type { EntryId, EntryTable } from "../write/entry-table.ts";
import type { LayerRecord } from "./record.ts";

export type KeptRecord = LayerRecord<EntryId>;

const PIECE_BYTES = 256 << 10;
/** Two paths of 4,096 bytes with a length before each name, and the numbers: a record never goes over the end of a piece. */
const MAX_RECORD_BYTES = 16 << 10;
const DOES = ["directory", "file", "symlink", "special", "hardlink", "whiteout", "opaque"] as const;
const KINDS = ["character", "block", "fifo"] as const;

/**
 * The records of one layer in the order they came, packed: a name takes its bytes, and names that a path has in common with the one before
 * take none. They are read from the first to the last, as objects that live no longer than their reader needs them.
 */
export class RecordLog implements Iterable<KeptRecord> {
  readonly #entries: EntryTable;
  readonly #layer: number;
  readonly #pieces: Buffer[] = [];
  /** Bytes in use of each piece. */
  readonly #fills: number[] = [];
  #out: Buffer = Buffer.alloc(0);
  #at = 0;
  #names: readonly RawName[] = [];

  /** What records say of their nodes goes to `entries`. */
  constructor(entries: EntryTable, layer: number) {
    this.#entries = entries;
    this.#layer = layer;
  }

  /** Keeps a record. Returns its entry; null if it makes no node. */
  add(record: LayerRecord): EntryId | null {
    if (this.#out.length - this.#at < MAX_RECORD_BYTES) this.#startPiece();
    this.#byte(DOES.indexOf(record.does));
    this.#path(record.names);
    const entry = "entry" in record ? this.#entries.add(record.entry, this.#layer) : null;
    if (entry !== null) this.#at = this.#out.writeUInt32LE(entry, this.#at);
    if (record.does === "directory") this.#byte(record.opaque ? 1 : 0);
    if (record.does === "whiteout") this.#byte(record.isDevice ? 1 : 0);
    if (record.does === "symlink") this.#text(record.target);
    if (record.does === "hardlink") this.#list(record.target, 0);
    if (record.does === "special") {
      this.#byte(KINDS.findIndex((kind) => kind === record.kind));
      this.#at = this.#out.writeDoubleLE(record.deviceMajor, this.#at);
      this.#at = this.#out.writeDoubleLE(record.deviceMinor, this.#at);
    }
    this.#fills[this.#fills.length - 1] = this.#at;
    return entry;
  }

  *[Symbol.iterator](): Generator<KeptRecord> {
    const reader = new Reader();
    for (const [index, piece] of this.#pieces.entries()) {
      const end = this.#fills[index] ?? 0;
      reader.begin(piece);
      while (reader.at < end) yield reader.record();
    }
  }

  #startPiece(): void {
    this.#out = Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.#pieces.push(this.#out);
    this.#fills.push(0);
    this.#at = 0;
  }

  #path(names: readonly RawName[]): void {
    let shared = 0;
    while (shared < names.length && shared < this.#names.length && names[shared] === this.#names[shared]) shared += 1;
    this.#at = this.#out.writeUInt16LE(shared, this.#at);
    this.#list(names, shared);
    this.#names = names;
  }

  #list(names: readonly RawName[], from: number): void {
    this.#at = this.#out.writeUInt16LE(names.length - from, this.#at);
    for (let index = from; index < names.length; index += 1) this.#text(names[index] ?? "");
  }

  #text(text: RawName): void {
    this.#at = this.#out.writeUInt16LE(text.length, this.#at);
    this.#at += this.#out.write(text, this.#at, "latin1");
  }

  #byte(value: number): void {
    this.#at = this.#out.writeUInt8(value, this.#at);
  }
}

/** Reads what RecordLog has written. */
class Reader {
  at = 0;
  #piece: Buffer = Buffer.alloc(0);
  #names: readonly RawName[] = [];

  begin(piece: Buffer): void {
    this.#piece = piece;
    this.at = 0;
  }

  record(): KeptRecord {
    const does = DOES[this.#byte()] ?? "opaque";
    const shared = this.#number();
    const names = this.#list(this.#names.slice(0, shared));
    this.#names = names;
    if (does === "opaque") return { does, names };
    if (does === "whiteout") return { does, names, isDevice: this.#byte() === 1 };
    if (does === "hardlink") return { does, names, target: this.#list([]) };
    const entry = this.#piece.readUInt32LE(this.at);
    this.at += 4;
    if (does === "file") return { does, names, entry };
    if (does === "directory") return { does, names, entry, opaque: this.#byte() === 1 };
    if (does === "symlink") return { does, names, entry, target: this.#text() };
    const kind = KINDS[this.#byte()] ?? "fifo";
    this.at += 16;
    const [deviceMajor, deviceMinor] = [this.#piece.readDoubleLE(this.at - 16), this.#piece.readDoubleLE(this.at - 8)];
    return { does, names, entry, kind, deviceMajor, deviceMinor };
  }

  #list(names: RawName[]): RawName[] {
    for (let left = this.#number(); left > 0; left -= 1) names.push(this.#text());
    return names;
  }

  #text(): RawName {
    const length = this.#number();
    this.at += length;
    return this.#piece.toString("latin1", this.at - length, this.at);
  }

  #number(): number {
    this.at += 2;
    return this.#piece.readUInt16LE(this.at - 2);
  }

  #byte(): number {
    this.at += 1;
    return this.#piece[this.at - 1] ?? 0;
  }
}
