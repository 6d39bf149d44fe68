import { TAR_END_BYTES, encodePaxRecord, octal, paddingAfter } from "./encode.ts";
import { TarError } from "./errors.ts";
import { TAR_BLOCK_BYTES } from "./header.ts";

/** A file or a directory of a tar that is written. */
export interface WrittenMember {
  /** Relative, with slashes; UTF-8. A directory needs no slash at its end. */
  readonly path: string;
  readonly type: "file" | "directory";
  /** Permission bits; by default 0644, of a directory 0755. */
  readonly mode?: number;
  /** Bytes of content; 0 for a directory. */
  readonly sizeBytes: number;
  /** Exactly `sizeBytes`. Called once. */
  readonly open: () => AsyncIterable<Uint8Array>;
}

/** What eleven octal digits hold; a PAX record says more. */
const MAX_OCTAL_SIZE = 8 ** 11 - 1;
const NAME_BYTES = 100;

interface HeaderFields {
  readonly name: Buffer;
  readonly flag: string;
  readonly mode: number;
  readonly sizeBytes: number;
}

/** A ustar header of root's, from 1970 (POSIX.1-2017, pax). */
const headerBlock = ({ name, flag, mode, sizeBytes }: HeaderFields): Buffer => {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  name.copy(block, 0, 0, NAME_BYTES);
  block.write(octal(mode, 7), 100, "latin1");
  block.write(octal(0, 7), 108, "latin1");
  block.write(octal(0, 7), 116, "latin1");
  block.write(octal(Math.min(sizeBytes, MAX_OCTAL_SIZE), 11), 124, "latin1");
  block.write(octal(0, 11), 136, "latin1");
  block.write(" ".repeat(8), 148, "latin1");
  block.write(flag, 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)} `, 148, "latin1");
  return block;
};

/** The header of a member, behind an extended one where ustar's fields are too small or its letters too few. */
const memberHeader = (member: WrittenMember): Buffer => {
  const isDirectory = member.type === "directory";
  const path = isDirectory && !member.path.endsWith("/") ? `${member.path}/` : member.path;
  const name = Buffer.from(path);
  const isPlainName = name.length <= NAME_BYTES && name.length === path.length;
  const records = [
    ...(isPlainName ? [] : [encodePaxRecord("path", Buffer.from(path))]),
    ...(member.sizeBytes > MAX_OCTAL_SIZE ? [encodePaxRecord("size", Buffer.from(String(member.sizeBytes)))] : []),
  ];
  const mode = member.mode ?? (isDirectory ? 0o755 : 0o644);
  const header = headerBlock({ name, flag: isDirectory ? "5" : "0", mode, sizeBytes: member.sizeBytes });
  if (records.length === 0) return header;
  const extended = Buffer.concat(records);
  const extendedHeader = headerBlock({ name: Buffer.from("PaxHeaders/member"), flag: "x", mode: 0o644, sizeBytes: extended.length });
  return Buffer.concat([extendedHeader, extended, paddingAfter(extended.length), header]);
};

/**
 * A tar, piece by piece. All that is not said of a member is the same in every one, so that the same members make the
 * same bytes. Throws TarError TRUNCATED or LIMIT where a content has another length than it was said to have.
 */
export async function* writeTar(members: Iterable<WrittenMember>): AsyncGenerator<Uint8Array> {
  let offset = 0;
  for (const member of members) {
    const header = memberHeader(member);
    yield header;
    let left = member.sizeBytes;
    for await (const chunk of member.open()) {
      left -= chunk.length;
      if (left < 0) throw new TarError("LIMIT", `${member.path} is longer than ${member.sizeBytes} bytes`, offset);
      yield chunk;
    }
    if (left > 0) throw new TarError("TRUNCATED", `${member.path} is shorter than ${member.sizeBytes} bytes`, offset);
    const fill = paddingAfter(member.sizeBytes);
    if (fill.length > 0) yield fill;
    offset += header.length + member.sizeBytes + fill.length;
  }
  yield Buffer.alloc(TAR_END_BYTES);
}
