import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { TarError, TarParser, listTarMembers, type TarEntry, type TarErrorCode } from "./index.ts";
import { paxRecord, sealHeader, tarEntry, tarHeader, type TarSpec } from "./tar-writer.fixture.ts";

/** Reads pieces to their end; what they are is made while they are read. */
const read = (pieces: Iterable<Uint8Array>): TarEntry[] => {
  const entries: TarEntry[] = [];
  const parser = new TarParser({ entry: (entry) => entries.push(entry) > 0, data: () => {}, hole: () => {}, end: () => {} });
  for (const piece of pieces) parser.write(piece);
  parser.end();
  return entries;
};

/** The stream parser and the list of members refuse it alike. */
const refused = async (tar: Buffer, code: TarErrorCode): Promise<void> => {
  const isIt = (error: unknown): boolean => error instanceof TarError && error.code === code;
  assert.throws(() => read([tar]), isIt, code);
  const list = async (): Promise<void> => {
    const members = listTarMembers(async (offset, length) => tar.subarray(offset, offset + length), { sizeBytes: tar.length });
    for await (const member of members) assert.ok(member.sizeBytes <= tar.length);
  };
  await assert.rejects(list(), isIt, code);
};

/** A header whose size field holds these bytes. */
const withSize = (flag: string, size: Uint8Array | string): Buffer => {
  const header = tarHeader({ name: "f", flag, size: 0 });
  header.fill(0, 124, 136);
  header.set(Buffer.from(size as string, "latin1"), 124);
  return sealHeader(header);
};

const base256 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(12);
  bytes.writeBigInt64BE(value, 4);
  bytes.fill(value < 0n ? 0xff : 0, 0, 4);
  bytes[0] = value < 0n ? 0xff : 0x80;
  return bytes;
};

const GIB = 2 ** 30;

/** What a file of zeros, a run of "0" or of "A" unpacks to, without taking its room. */
function* many(first: Buffer, totalBytes: number, fill: string): Generator<Uint8Array> {
  yield first;
  const piece = Buffer.alloc(1 << 20, fill);
  for (let at = 0; at < totalBytes; at += piece.length) yield piece;
}

/** Everything that buffers hold, which is where a parser would gather its input. */
const heldBytes = (): number => process.memoryUsage().arrayBuffers;

suite("a hostile tar", () => {
  for (const flag of ["x", "g", "L", "K"]) {
    test(`an extended header ("${flag}") that says it has 4 GiB is refused by its header alone`, async () => {
      await refused(withSize(flag, base256(BigInt(4 * GIB))), "LIMIT");
      await refused(withSize(flag, "40000000000\0"), "LIMIT");
    });
  }

  test("a size that is negative, more than a file can have, or no number is refused, whatever the field is written in", async () => {
    await refused(withSize("0", base256(-1n)), "NUMBER");
    await refused(withSize("0", base256(-(2n ** 62n))), "NUMBER");
    await refused(withSize("x", base256(-512n)), "NUMBER");
    await refused(withSize("0", Buffer.alloc(12, 0xff)), "NUMBER");
    await refused(withSize("0", Buffer.concat([Buffer.from([0xbf]), Buffer.alloc(11, 0xff)])), "NUMBER");
    await refused(withSize("0", base256(2n ** 53n)), "NUMBER");
    await refused(withSize("0", base256(2n ** 52n)), "LIMIT");
    await refused(withSize("0", "-0000000001\0"), "NUMBER");
    await refused(withSize("0", "00000000018\0"), "NUMBER");
    await refused(tarEntry({ path: "f", pax: { size: "-1" } }), "PAX");
    await refused(tarEntry({ path: "f", pax: { size: "99999999999999999999" } }), "PAX");
    await refused(tarEntry({ path: "f", pax: { size: "9007199254740991" } }), "LIMIT");
    await refused(tarEntry({ path: "f", content: "x", pax: { size: "4294967296" } }), "TRUNCATED");
  });

  test("a checksum that is wrong in any byte of a header is refused", async () => {
    const header = tarHeader({ name: "name", flag: "0", size: 0 });
    for (let at = 0; at < 512; at += 1) {
      const damaged = Buffer.from(header);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      const inChecksum = at >= 148 && at < 156;
      assert.throws(
        () => read([damaged]),
        // its spaces and the byte behind its end say nothing
        (error) => error instanceof TarError && (error.code === "CHECKSUM" || (inChecksum && error.code === "NUMBER")),
        `byte ${at}`,
      );
      if (at === 153) at = 155;
    }
  });

  test("a sparse map without an end takes no memory", () => {
    const body = Buffer.from(
      paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") + paxRecord("GNU.sparse.realsize", "9"),
    );
    const extended = [tarHeader({ name: "x", flag: "x", size: body.length }), body, Buffer.alloc(512 - body.length)];
    const count = Buffer.alloc(512, "0");
    count.write("1000\n");
    const start = Buffer.concat([...extended, tarHeader({ name: "f", flag: "0", size: GIB }), count]);
    const before = heldBytes();
    assert.throws(() => read(many(start, GIB, "0")), { name: "TarError", code: "SPARSE" });
    assert.ok(heldBytes() - before < 16 << 20, `${heldBytes() - before} bytes`);
  });

  test("an old sparse map without an end has a limit", () => {
    const header = tarHeader({ name: "s", flag: "S", size: 0 });
    header[482] = 1;
    const extension = Buffer.alloc(512);
    for (let at = 0; at < 504; at += 12) extension.write("00000000000\0", at);
    extension[504] = 1;
    const pieces = function* (): Generator<Uint8Array> {
      yield sealHeader(header);
      for (;;) yield extension;
    };
    assert.throws(() => read(pieces()), { name: "TarError", code: "LIMIT" });
  });
});

/** Of every kind, with each of the extended headers. */
const KINDS: readonly TarSpec[] = [
  { path: "./", type: "directory" },
  { path: "empty" },
  { path: "file", content: "x".repeat(700), mode: 0o4755, uid: 4_000_000_000, mtime: "-1.5", xattrs: { "user.a": "b" } },
  { path: "whole", content: Buffer.alloc(512, 1) },
  { path: "link", type: "hardlink", link: "file" },
  { path: "s".repeat(120), type: "symlink", link: "t".repeat(120) },
  { path: "sparse", content: "12345", pax: { "GNU.sparse.map": "0,3,4,2", "GNU.sparse.size": "9" } },
  { path: "c", type: "character", device: [1, 3] },
  { path: "p", type: "fifo" },
];

const longName = (flag: string, name: string): Buffer => {
  const body = Buffer.alloc(512);
  body.write(name);
  return Buffer.concat([tarHeader({ name: "././@LongLink", flag, size: name.length + 1 }), body]);
};

/** The parts that have no meaning without what follows them in the same part. */
const PARTS: readonly Buffer[] = [
  ...KINDS.map(tarEntry),
  tarHeader({ name: "label", flag: "V", size: 0 }),
  Buffer.concat([longName("L", "l".repeat(200)), longName("K", "k".repeat(150)), tarEntry({ path: "x", type: "symlink", link: "y" })]),
];

test("every prefix of a tar is a typed error, but where an entry ends", () => {
  const ends = new Set([0]);
  let length = 0;
  for (const part of PARTS) {
    length += part.length;
    ends.add(length);
  }
  const tar = Buffer.concat([...PARTS, Buffer.alloc(1024)]);
  for (let at = 0; at <= tar.length; at += 1) {
    const end = at >= length + 512 || ends.has(at);
    let error: unknown = null;
    try {
      read([tar.subarray(0, at)]);
    } catch (thrown) {
      error = thrown;
    }
    if (end) assert.equal(error, null, `${at} of ${tar.length} bytes`);
    else assert.ok(error instanceof TarError, `${at} of ${tar.length} bytes: ${String(error)}`);
  }
  assert.equal(read([tar]).length, KINDS.length + 1);
});
