import { KernelFormatError } from "./errors.ts";

/** Little-endian ELF64 files (System V ABI, gABI chapter 4), as far as kernels and modules need it. */

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const SECTION_HEADER_BYTES = 64;
const NOTE_SEGMENT = 4;
/** Kernels have about ten segments; modules some hundred sections, with one function a section some thousands. */
const MAX_TABLE = 65_535;

const invalid = (what: string): KernelFormatError => new KernelFormatError("INVALID", `the ELF file ${what}`);

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly content: Uint8Array;
}

/** A file whose headers were checked. Every range that it hands out lies in the file. */
export class ElfFile {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** Throws KernelFormatError INVALID. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < HEADER_BYTES || this.#view.getUint32(0, false) !== 0x7f45_4c46) throw invalid("has no ELF header");
    if (bytes[4] !== 2 || bytes[5] !== 1) throw invalid("is not of 64 bits, little-endian");
  }

  /** The notes of all note segments. */
  notes(): ElfNote[] {
    const view = this.#view;
    const table = this.#table({
      offset: this.#offset(32),
      entryBytes: view.getUint16(54, true),
      count: view.getUint16(56, true),
      minimum: PROGRAM_HEADER_BYTES,
    });
    return table.flatMap((at) => {
      if (view.getUint32(at, true) !== NOTE_SEGMENT) return [];
      return parseNotes(this.#range(this.#offset(at + 8), this.#offset(at + 32)));
    });
  }

  /** The bytes of the first section of that name; null if there is none. */
  section(name: string): Uint8Array | null {
    const view = this.#view;
    const table = this.#table({
      offset: this.#offset(40),
      entryBytes: view.getUint16(58, true),
      count: view.getUint16(60, true),
      minimum: SECTION_HEADER_BYTES,
    });
    const namesAt = table[view.getUint16(62, true)];
    if (namesAt === undefined) return null;
    const names = this.#sectionBytes(namesAt);
    const wanted = new TextEncoder().encode(`${name}\0`);
    const found = table.find((at) => {
      const nameAt = view.getUint32(at, true);
      return wanted.every((byte, index) => names[nameAt + index] === byte);
    });
    return found === undefined ? null : this.#sectionBytes(found);
  }

  #sectionBytes(at: number): Uint8Array {
    return this.#range(this.#offset(at + 24), this.#offset(at + 32));
  }

  /** Where each entry of a table of headers begins. */
  #table(header: { offset: number; entryBytes: number; count: number; minimum: number }): number[] {
    const { offset, entryBytes, count, minimum } = header;
    if (count === 0) return [];
    if (entryBytes < minimum || count > MAX_TABLE) throw invalid("has a table of unknown shape");
    this.#range(offset, entryBytes * count);
    return Array.from({ length: count }, (_, index) => offset + index * entryBytes);
  }

  #offset(at: number): number {
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(this.#bytes.length)) throw invalid("refers to bytes beyond its end");
    return Number(value);
  }

  #range(offset: number, length: number): Uint8Array {
    if (offset + length > this.#bytes.length) throw invalid("is cut off");
    return this.#bytes.subarray(offset, offset + length);
  }
}

const align4 = (length: number): number => (length + 3) & ~3;

const parseNotes = (segment: Uint8Array): ElfNote[] => {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
  const notes: ElfNote[] = [];
  for (let at = 0; at + 12 <= segment.length;) {
    const [nameBytes, contentBytes, type] = [view.getUint32(at, true), view.getUint32(at + 4, true), view.getUint32(at + 8, true)];
    const contentAt = at + 12 + align4(nameBytes);
    if (nameBytes > segment.length || contentBytes > segment.length || contentAt + contentBytes > segment.length)
      throw invalid("has a note that is cut off");
    const owner = new TextDecoder("latin1").decode(segment.subarray(at + 12, at + 12 + nameBytes)).replace(/\0+$/, "");
    notes.push({ owner, type, content: segment.subarray(contentAt, contentAt + contentBytes) });
    at = contentAt + align4(contentBytes);
  }
  return notes;
};
