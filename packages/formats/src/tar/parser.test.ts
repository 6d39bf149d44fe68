import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { TarError, TarParser } from "./index.ts";
import type { TarEntry } from "./index.ts";
import { buildTar, paxRecord, sealHeader, tarEntry, tarHeader } from "./tar-writer.fixture.ts";
import type { TarSpec } from "./tar-writer.fixture.ts";

interface ReadEntry extends Omit<TarEntry, "xattrs"> {
  readonly xattrs: Readonly<Record<string, string>>;
  readonly content: Buffer;
}

const read = (tar: Uint8Array, chunkBytes = tar.length): ReadEntry[] => {
  const entries: ReadEntry[] = [];
  let open: { entry: TarEntry; parts: Buffer[] } | null = null;
  const close = (entry: TarEntry, parts: Buffer[]): unknown =>
    entries.push({
      ...entry,
      xattrs: Object.fromEntries([...entry.xattrs].map(([name, value]) => [name, Buffer.from(value).toString("latin1")])),
      content: Buffer.concat(parts),
    });
  const parser = new TarParser({
    entry: (entry) => {
      if (entry.type === "file") open = { entry, parts: [] };
      else close(entry, []);
      return true;
    },
    data: (bytes) => open?.parts.push(Buffer.from(bytes)),
    hole: (length) => open?.parts.push(Buffer.alloc(length)),
    end: () => open !== null && close(open.entry, open.parts),
  });
  for (let at = 0; at < tar.length; at += chunkBytes) parser.write(tar.subarray(at, at + chunkBytes));
  parser.end();
  return entries;
};

const rejects = (tar: Uint8Array, code: TarError["code"]): void => {
  assert.throws(
    () => read(tar),
    (error) => error instanceof TarError && error.code === code,
    code,
  );
};

const withScratch = (use: (directory: string) => void): void => {
  const directory = mkdtempSync(join(tmpdir(), "kiln tar "));
  try {
    use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

test("an entry keeps its type, owner, mode, times, device, names and attributes", () => {
  const [file, link, device] = read(
    buildTar([
      {
        path: "a/b",
        content: "hello",
        mode: 0o4755,
        uid: 4_294_967_294,
        gid: 70_000,
        mtime: "-1.25",
        xattrs: { "user.x": "=\n\0v", "security.capability": "c" },
      },
      { path: "l", type: "symlink", link: "../\xff" },
      { path: "d", type: "character", device: [5, 300] },
    ]),
  );
  assert.equal(file?.content.toString(), "hello");
  assert.deepEqual([file.mode, file.uid, file.gid], [0o4755, 4_294_967_294, 70_000]);
  assert.deepEqual(file.modifiedAt, { seconds: -2, nanoseconds: 750_000_000 });
  assert.deepEqual(file.xattrs, { "user.x": "=\n\0v", "security.capability": "c" });
  assert.deepEqual([link?.type, link?.linkPath], ["symlink", "../\xff"]);
  assert.deepEqual([device?.type, device?.deviceMajor, device?.deviceMinor], ["character", 5, 300]);
});

test("any chunking reads the same", () => {
  const tar = buildTar([
    { path: "p".repeat(200), content: Buffer.alloc(3000, 7), xattrs: { "user.a": "b".repeat(900) } },
    { path: "dir", type: "directory" },
    { path: "empty" },
    { path: "x", content: "y" },
  ]);
  const whole = read(tar);
  for (const chunkBytes of [1, 7, 511, 512, 513, 4096]) assert.deepEqual(read(tar, chunkBytes), whole, `${chunkBytes} bytes a chunk`);
});

for (const format of ["v7", "ustar", "gnu", "posix"]) {
  test(`GNU tar's ${format} format reads as it was written`, () => {
    withScratch((directory) => {
      const long = format === "v7" ? "n".repeat(80) : `${"d".repeat(90)}-${"e".repeat(format === "ustar" ? 5 : 150)}`;
      writeFileSync(join(directory, long), "content", { mode: 0o640 });
      const tar = execFileSync("tar", ["--format", format, "--numeric-owner", "--mtime=@1600000000", "-C", directory, "-cf", "-", "."]);
      const [root, file] = read(tar);
      assert.equal(root?.type, "directory");
      assert.deepEqual([file?.path, file?.content.toString(), file?.mode], [`./${long}`, "content", 0o640]);
      assert.deepEqual(file?.modifiedAt, { seconds: 1_600_000_000, nanoseconds: 0 });
    });
  });
}

for (const format of ["gnu", "posix"]) {
  test(`GNU tar's ${format} format keeps long names and targets, bytes that are no text, large owners and times before 1970`, () => {
    withScratch((directory) => {
      const path = (name: string): Buffer => Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name, "latin1")]);
      const long = `${"\xff\xe9".repeat(60)}/${"n".repeat(200)}`;
      mkdirSync(path(long.slice(0, 120)));
      writeFileSync(path(long), "content");
      linkSync(path(long), path("link"));
      symlinkSync(Buffer.from("\xfe".repeat(150), "latin1"), path("symlink"));
      const options = ["--format", format, "--owner=o:3000000000", "--group=g:2097152", "--mtime=@-5.25", "--null", "-T-"];
      const entries = read(
        execFileSync("tar", ["-C", directory, ...options, "-cf", "-"], {
          input: Buffer.from(["link", "symlink", long].join("\0"), "latin1"),
        }),
      );
      assert.deepEqual(
        entries.map((entry) => [entry.type, entry.path, entry.linkPath]),
        [
          ["file", "link", ""],
          ["symlink", "symlink", "\xfe".repeat(150)],
          ["hardlink", long, "link"],
        ],
      );
      for (const { uid, gid } of entries) assert.deepEqual([uid, gid], [3_000_000_000, 2_097_152]);
      const seconds = format === "gnu" ? { seconds: -6, nanoseconds: 0 } : { seconds: -6, nanoseconds: 750_000_000 };
      assert.deepEqual(entries[0]?.modifiedAt, seconds);
    });
  });
}

for (const format of [["gnu"], ["posix", "--sparse-version=0.0"], ["posix", "--sparse-version=0.1"], ["posix", "--sparse-version=1.0"]]) {
  test(`a sparse file reads as it is: ${format.join(" ")}`, () => {
    withScratch((directory) => {
      const content = Buffer.alloc(1_500_000);
      for (let at = 8192; at < 1_200_000; at += 65_536) content.fill(at % 251, at, at + 4096);
      for (let at = 0; at < content.length; at += 4096) {
        const block = content.subarray(at, at + 4096);
        if (block.some((byte) => byte !== 0)) writeFileSync(join(directory, "s"), block, { flag: "a" });
        else truncateSyncTo(join(directory, "s"), Math.min(at + 4096, content.length));
      }
      const [name, ...options] = format;
      const tar = execFileSync("tar", ["-S", "--format", name ?? "", ...options, "-C", directory, "-cf", "-", "s"]);
      assert.ok(tar.length < 300_000, "GNU tar has stored it sparse");
      for (const chunkBytes of [tar.length, 700]) {
        const [file] = read(tar, chunkBytes);
        assert.equal(file?.path, "s");
        assert.equal(file.sizeBytes, content.length);
        assert.ok(file.content.equals(content));
      }
    });
  });
}

const truncateSyncTo = (path: string, length: number): void => {
  writeFileSync(path, "", { flag: "a" });
  truncateSync(path, length);
};

test("libarchive's attributes are read, and SCHILY's win", () => {
  const spec: TarSpec = {
    path: "f",
    xattrs: { "user.both": "schily" },
    pax: { "LIBARCHIVE.xattr.user.b%3Dc": Buffer.from("value").toString("base64"), "LIBARCHIVE.xattr.user.both": "eA==" },
  };
  assert.deepEqual(read(buildTar([spec]))[0]?.xattrs, { "user.b=c": "value", "user.both": "schily" });
});

test("base-256 numbers are read", () => {
  const header = tarHeader({ name: "f", flag: "0", size: 0 });
  header.set([0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe], 108);
  header.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], 136);
  const [file] = read(sealHeader(header));
  assert.equal(file?.uid, 4_294_967_294);
  assert.deepEqual(file.modifiedAt, { seconds: -2, nanoseconds: 0 });
});

test("a PAX record without a value leaves the header's own field, and the last record of a key counts", () => {
  const records = [
    ["path", "old"],
    ["path", ""],
    ["uid", ""],
    ["mtime", "1.5"],
    ["mtime", "2.5"],
  ] as const;
  const body = Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(""));
  const header = tarHeader({ name: "PaxHeaders/x", flag: "x", size: body.length });
  const [file] = read(Buffer.concat([header, body, Buffer.alloc(512 - body.length), tarEntry({ path: "own", uid: 7 })]));
  assert.deepEqual([file?.path, file?.uid, file?.modifiedAt], ["own", 7, { seconds: 2, nanoseconds: 500_000_000 }]);
});

test("what has no content by its type has none, whatever its size field says", () => {
  const [link, file] = read(
    Buffer.concat([tarHeader({ name: "l", flag: "2", size: 512, link: "x" }), tarEntry({ path: "f", content: "z" })]),
  );
  assert.deepEqual([link?.type, link?.sizeBytes, file?.content.toString()], ["symlink", 0, "z"]);
});

test("a global header and a volume label are skipped, and nothing after the end marker counts", () => {
  const record = Buffer.alloc(512);
  record.write(paxRecord("path", "evil"));
  const parts = [
    tarHeader({ name: "label", flag: "V", size: 0 }),
    tarHeader({ name: "g", flag: "g", size: paxRecord("path", "evil").length }),
    record,
  ];
  const entries = read(Buffer.concat([...parts, buildTar([{ path: "good" }]), Buffer.alloc(5000, 0xaa)]));
  assert.deepEqual(
    entries.map((entry) => entry.path),
    ["good"],
  );
});

test("a hostile tar is refused with a code and an offset", () => {
  const file = tarEntry({ path: "f", content: "content" });
  rejects(Buffer.concat([file.subarray(0, 511), Buffer.from("x"), file.subarray(512)]), "CHECKSUM");
  rejects(Buffer.alloc(512, 0x41), "NUMBER");
  rejects(file.subarray(0, 700), "TRUNCATED");
  rejects(file.subarray(0, 100), "TRUNCATED");
  rejects(tarHeader({ name: "f", flag: "M", size: 0 }), "TYPE");
  rejects(tarEntry({ path: "f", pax: { size: "-5" } }), "PAX");
  rejects(tarEntry({ path: "f", pax: { path: "a\0b" } }), "PAX");
  rejects(tarEntry({ path: "f", pax: { uid: "4294967296" } }), "NUMBER");
  rejects(tarEntry({ path: "f", pax: { path: "p".repeat(5000) } }), "LIMIT");
  rejects(tarHeader({ name: "x", flag: "x", size: 2 ** 21 }), "LIMIT");
  rejects(Buffer.concat([tarHeader({ name: "x", flag: "x", size: 3 }), Buffer.alloc(512, 0x39)]), "PAX");
  rejects(Buffer.concat([tarHeader({ name: "L", flag: "L", size: 3 }), Buffer.alloc(512, 0x41)]), "DANGLING");
  rejects(tarEntry({ path: "f", content: "12345", pax: { "GNU.sparse.map": "0,3,2,2", "GNU.sparse.size": "9" } }), "SPARSE");
  rejects(tarEntry({ path: "f", content: "12345", pax: { "GNU.sparse.map": "0,5", "GNU.sparse.size": "4" } }), "SPARSE");
  rejects(tarEntry({ path: "f", content: "", pax: { "GNU.sparse.map": "", "GNU.sparse.size": "9007199254740991" } }), "LIMIT");
});

test("whatever the bytes, the parser ends with entries or a TarError", () => {
  const seed = buildTar([
    { path: "a", content: "some content", xattrs: { "user.x": "y" } },
    { path: "b".repeat(150), type: "symlink", link: "c" },
    { path: "s", content: "12345", pax: { "GNU.sparse.map": "0,3,4,2", "GNU.sparse.size": "9" } },
  ]);
  const change = fc.record({ at: fc.nat({ max: seed.length - 1 }), byte: fc.nat({ max: 255 }), reseal: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 2000 }), (changes, chunkBytes) => {
      const tar = Buffer.from(seed);
      for (const { at, byte, reseal } of changes) {
        tar[at] = byte;
        const header = tar.subarray(at - (at % 512), at - (at % 512) + 512);
        if (reseal) sealHeader(header);
      }
      try {
        read(tar, chunkBytes);
      } catch (error) {
        assert.ok(error instanceof TarError, String(error));
      }
    }),
    { numRuns: 1500 },
  );
});
