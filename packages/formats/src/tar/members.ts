import type { RawName, TarEntryType } from "./entry.ts";
import { describeEntry, extend, noExtensions, type Extensions } from "./describe.ts";
import { TarError } from "./errors.ts";
import { TAR_BLOCK_BYTES, isZeroBlock, parseHeader, type RawHeader } from "./header.ts";
import { MAX_EXTENDED_HEADER_BYTES } from "./limits.ts";
import { parsePax } from "./pax.ts";
import { paddedLength } from "./sparse.ts";

/** A member of a tar that lies somewhere where it can be read again. */
export interface TarMember {
  /** As written, neither normalised nor checked. */
  readonly path: RawName;
  readonly type: TarEntryType;
  /** Target of a symlink or hard link; empty otherwise. */
  readonly linkPath: RawName;
  /** Where its content begins in the tar. */
  readonly dataOffset: number;
  /** Bytes of content; 0 for everything but files. */
  readonly sizeBytes: number;
}

/** The bytes of the tar from `offset` on: `length` of them, fewer only where the tar ends. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

const HEADER_ONLY = "123456";

/**
 * The members of a tar, by its headers alone: contents are stepped over, not read. Understands what TarParser does but
 * sparse files, whose content does not lie in one piece. `sizeBytes` is the tar's whole length. Throws TarError.
 */
export async function* listTarMembers(read: ReadAt, { sizeBytes }: { readonly sizeBytes: number }): AsyncGenerator<TarMember> {
  let extensions = noExtensions(0);
  for (let offset = 0; offset < sizeBytes;) {
    if (!extensions.pending) extensions = noExtensions(offset);
    const block = Buffer.from(await readWhole(read, offset, TAR_BLOCK_BYTES));
    if (isZeroBlock(block)) break;
    const header = parseHeader(block, offset);
    const dataOffset = offset + TAR_BLOCK_BYTES;
    if (header.size < 0) throw new TarError("NUMBER", "the size of an entry is negative", offset);
    if ("xgLK".includes(header.typeFlag)) {
      if (header.size > MAX_EXTENDED_HEADER_BYTES) throw new TarError("LIMIT", "an extended header is too long", offset);
      const bytes = Buffer.from(await readWhole(read, dataOffset, header.size));
      extensions = extended(extensions, header, bytes);
      offset = dataOffset + paddedLength(header.size);
    } else if (header.typeFlag === "V") {
      offset = dataOffset + paddedLength(header.size);
    } else {
      const member = toMember(header, extensions, dataOffset);
      const storedBytes = HEADER_ONLY.includes(header.typeFlag) ? 0 : (extensions.size ?? header.size);
      if (dataOffset + storedBytes > sizeBytes) throw new TarError("TRUNCATED", "the tar ends inside an entry", offset);
      yield member;
      extensions = noExtensions(offset);
      offset = dataOffset + paddedLength(storedBytes);
    }
  }
  if (extensions.pending) throw new TarError("DANGLING", "the tar ends after an extended header", extensions.offset);
}

const readWhole = async (read: ReadAt, offset: number, length: number): Promise<Uint8Array> => {
  const bytes = await read(offset, length);
  if (bytes.length < length) throw new TarError("TRUNCATED", "the tar ends inside an entry", offset);
  return bytes;
};

const extended = (extensions: Extensions, header: RawHeader, bytes: Buffer): Extensions => {
  if (header.typeFlag === "g") return extensions;
  if (header.typeFlag === "x") return extend({ ...extensions, pending: true, pax: parsePax(bytes, extensions.offset) });
  const end = bytes.indexOf(0);
  const name = bytes.toString("latin1", 0, end === -1 ? bytes.length : end);
  return extend({ ...extensions, pending: true, ...(header.typeFlag === "L" ? { longName: name } : { longLink: name }) });
};

const toMember = (header: RawHeader, extensions: Extensions, dataOffset: number): TarMember => {
  const sparse = [...(extensions.pax?.values.keys() ?? [])].some((key) => key.startsWith("GNU.sparse."));
  if (header.typeFlag === "S" || sparse) throw new TarError("SPARSE", "a file is stored sparse", extensions.offset);
  const { path, type, linkPath, sizeBytes } = describeEntry(header, extensions, extensions.size ?? header.size);
  return { path, type, linkPath, dataOffset, sizeBytes };
};
