import { crc32 } from "node:zlib";
import { TarError, TarParser, listTarMembers, type TarEntry } from "../../../packages/formats/src/tar/index.ts";
import { mustHold, type FuzzTarget } from "../engine/target.ts";
import { PythonTar } from "./python-tar.ts";
import { mutateTar } from "./tar-changes.ts";

interface Read {
  readonly entries: readonly TarEntry[];
  /** Of each entry: bytes of content, and a sum over them, holes included. */
  readonly contents: readonly string[];
  readonly error: string | null;
}

const readTar = (tar: Uint8Array, chunkBytes: number): Read => {
  const entries: TarEntry[] = [];
  const contents: string[] = [];
  let position = 0;
  let sum = 0;
  const parser = new TarParser({
    entry: (entry) => {
      entries.push(entry);
      position = 0;
      sum = 0;
      return true;
    },
    data: (bytes) => {
      position += bytes.length;
      sum = crc32(bytes, sum);
    },
    hole: (lengthBytes) => {
      mustHold(lengthBytes > 0, () => "a hole has no length");
      sum = crc32(`hole of ${lengthBytes} at ${position}`, sum);
      position += lengthBytes;
    },
    end: () => {
      mustHold(position === entries.at(-1)?.sizeBytes, () => `an entry has ${position} bytes and not its size`);
      contents.push(`${position}:${sum}`);
    },
  });
  try {
    for (let at = 0; at < tar.length; at += chunkBytes) parser.write(tar.subarray(at, at + chunkBytes));
    parser.end();
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    return { entries, contents, error: `${error.code} at ${error.offset}` };
  }
  return { entries, contents, error: null };
};

const textOf = (entry: TarEntry): string =>
  JSON.stringify({ ...entry, xattrs: [...entry.xattrs].map(([name, value]) => [name, [...value]]) });

const members = async (tar: Buffer): Promise<{ names: string[]; error: string | null }> => {
  const names: string[] = [];
  try {
    const read = async (offset: number, length: number): Promise<Buffer> => tar.subarray(offset, offset + length);
    for await (const { path, type, linkPath, sizeBytes } of listTarMembers(read, { sizeBytes: tar.length }))
      names.push(JSON.stringify([path, type, linkPath, sizeBytes]));
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    return { names, error: error.code };
  }
  return { names, error: null };
};

/** Reading by headers alone sees the same, but no sparse files, which it refuses. */
const checkMembers = async (tar: Buffer, read: Read): Promise<void> => {
  const listed = await members(tar);
  if (listed.error === "SPARSE") return;
  const expected = read.entries.map(({ path, type, linkPath, sizeBytes }) => JSON.stringify([path, type, linkPath, sizeBytes]));
  const shared = Math.min(listed.names.length, expected.length);
  mustHold(
    expected.slice(0, shared).join() === listed.names.slice(0, shared).join(),
    () => `members ${listed.names.join()} and entries ${expected.join()}`,
  );
  if (read.error === null)
    mustHold(listed.error === null && listed.names.length === expected.length, () => `members end with ${listed.error} after ${shared}`);
};

const python = new PythonTar();

/** A different piece length for each input, and the same each time. */
const pieceBytes = (tar: Buffer): number => 1 + (((tar[0] ?? 0) * 7 + (tar[tar.length >> 1] ?? 0) + tar.length) % 700);

export const TAR: FuzzTarget = {
  about: "tar: ustar, GNU, PAX, star, v7, sparse; the stream parser and the list of members",
  holds:
    "any pieces read the same; both readers agree; content has its size; Python's tarfile lists what is accepted, but for known reasons",
  maxBytes: 24 << 10,
  run: (tar, { thorough }) => {
    const whole = readTar(tar, Math.max(tar.length, 1));
    const pieces = readTar(tar, pieceBytes(tar));
    mustHold(whole.error === pieces.error, () => `${whole.error} whole, ${pieces.error} in pieces`);
    mustHold(whole.entries.map(textOf).join() === pieces.entries.map(textOf).join(), () => "other entries in pieces");
    mustHold(whole.contents.join() === pieces.contents.join(), () => "other content in pieces");
    const outcome = whole.error === null ? "accepted" : "refused";
    if (!thorough) return outcome;
    return (async () => {
      await checkMembers(tar, whole);
      if (whole.error === null) await python.check(tar, whole.entries);
      return outcome;
    })();
  },
  mutate: mutateTar,
  close: () => python.close(),
};
