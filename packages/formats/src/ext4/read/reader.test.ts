import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TarError } from "../../tar/index.ts";
import { buildTar } from "../../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../../tar/tar-writer.fixture.ts";
import { Ext4ReadError, Ext4Reader, ext4ToTar, overlayUpperToTar } from "./index.ts";
import { buildInMemory, listImage, memorySource, readTar } from "./reader.fixture.ts";

const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex");
/** user::rw-, user:1000:r--, group::r--, mask::r--, other::---, as programs see it. */
const ACL = Buffer.from(
  ["02000000", "01000600ffffffff", "02000400e8030000", "04000400ffffffff", "10000400ffffffff", "20000000ffffffff"].join(""),
  "hex",
);
const LONG = `${"n".repeat(255)}/${"m".repeat(255)}`;

/** Every directory is named, so that nothing of the tree is the writer's own. */
const TREE: readonly TarSpec[] = [
  { path: "./", type: "directory", mode: 0o755, mtime: "1600000000.5" },
  { path: "modes", type: "directory", mode: 0o1777, uid: 1, gid: 2, mtime: "1.000000001" },
  { path: "modes/suid", content: "x", mode: 0o4755, uid: 4_294_967_294, gid: 100_000 },
  { path: "modes/sgid", content: "", mode: 0o2711, mtime: "-2.25" },
  { path: "modes/before", content: "", mtime: "-0.5" },
  { path: "modes/far", content: "", mode: 0, mtime: "10000000000.999999999" },
  { path: "a", content: "linked", uid: 5, xattrs: { "user.on": "links too" } },
  { path: "b", type: "hardlink", link: "a" },
  { path: "dev", type: "directory" },
  { path: "dev/null", type: "character", device: [1, 3], mode: 0o666 },
  { path: "dev/big", type: "block", device: [259, 70_000], mode: 0o660 },
  { path: "dev/pipe", type: "fifo", mode: 0o600, uid: 7 },
  { path: "dev/pipe2", type: "hardlink", link: "dev/pipe" },
  { path: "symlinks", type: "directory" },
  ...[1, 59, 60, 61, 101, 4095].map((length) => ({
    path: `symlinks/${length}`,
    type: "symlink" as const,
    link: "s".repeat(length),
    uid: 9,
  })),
  { path: "n".repeat(255), type: "directory" },
  { path: LONG, content: "long" },
  { path: "z", type: "hardlink", link: LONG },
  { path: "not-utf8-\xff\xfe", content: "bytes" },
  { path: "x", type: "directory", xattrs: { "user.d": "d", "system.posix_acl_default": ACL } },
  { path: "x/small", content: "x", xattrs: { "user.small": "v", "security.capability": CAPABILITY } },
  { path: "x/empty", content: "x", xattrs: { "user.empty": "" } },
  { path: "x/large", content: "x", xattrs: { "user.large": Buffer.alloc(3000, 0x0a), "trusted.t": "t".repeat(60) } },
  { path: "x/equals", content: "x", pax: { "LIBARCHIVE.xattr.user.a%3Db%25": "dmFsdWU=" } },
  { path: "x/acl", content: "x", mode: 0o640, xattrs: { "system.posix_acl_access": ACL } },
  { path: "sizes", type: "directory" },
  { path: "sizes/0" },
  ...[1, 511, 512, 513, 4095, 4096, 4097, 70_000].map((length, index) => ({
    path: `sizes/${length}`,
    content: Buffer.alloc(length, index + 1),
  })),
  { path: "sizes/zeros", content: Buffer.alloc(1_000_000) },
  {
    path: "sizes/holes",
    content: Buffer.concat([Buffer.alloc(5000, 1), Buffer.alloc(500_000), Buffer.alloc(100, 2), Buffer.alloc(200_000)]),
  },
  { path: "many", type: "directory" },
  ...Array.from({ length: 600 }, (_, index) => ({ path: `many/a rather long name, so that the directory has an index ${index}` })),
];

const image = buildInMemory([buildTar(TREE)]);
const open = (bytes: Uint8Array = image): Ext4Reader => Ext4Reader.open(memorySource(bytes));

test("an image of our own writer says what it is", () => {
  const reader = open();
  assert.equal(Buffer.from(reader.uuid).toString("hex"), "42".repeat(16));
  assert.deepEqual([reader.label, reader.blockBytes, reader.needsRecovery], ["kiln", 4096, false]);
  assert.equal(reader.blockCount * 4096, image.length);
});

test("an image of our own writer as a tar holds what it was made from, entry by entry", () => {
  const expected = readTar([buildTar(TREE)]);
  const actual = readTar(ext4ToTar(open()));
  const withoutSlash = (path: string): string => (path === "./" ? path : path.replace(/\/$/, ""));
  assert.deepEqual([...actual.keys()].map(withoutSlash).sort(), [...expected.keys()].sort());
  for (const [path, member] of actual) {
    const was = expected.get(withoutSlash(path));
    assert.ok(was !== undefined, path);
    const { offset: _, path: __, mode, ...rest } = member.entry;
    const { offset: ___, path: ____, mode: wasMode, ...wasRest } = was.entry;
    if (member.entry.type !== "hardlink") {
      assert.equal(mode, wasMode, path);
      assert.deepEqual(rest, wasRest, path);
    }
    assert.ok(member.content.equals(was.content), path);
  }
  assert.equal(actual.get("b")?.entry.linkPath, "a");
  assert.equal(actual.get("z")?.entry.linkPath, LONG);
  assert.ok((actual.get("sizes/holes")?.holeBytes ?? 0) > 690_000, "holes stay holes");
  assert.equal(actual.get("sizes/zeros")?.holeBytes, 1_000_000);
});

test("the tar of an image makes an image with the same tree, and the tar of that the same bytes", () => {
  const tar = Buffer.concat([...ext4ToTar(open())]);
  const again = open(buildInMemory([tar]));
  assert.deepEqual(listImage(again), listImage(open()));
  assert.ok(Buffer.concat([...ext4ToTar(again)]).equals(tar));
});

test("pieces of a tar are long, and stay as they were given", () => {
  const pieces = [...ext4ToTar(open())];
  const whole = Buffer.concat(pieces);
  assert.ok(whole.length % 512 === 0 && pieces.length < whole.length / 30_000);
  assert.ok(Buffer.concat([...ext4ToTar(open())]).equals(whole));
});

test("what is excluded is left out with all below it, and a link to it becomes the file", () => {
  const members = readTar(ext4ToTar(open(), { exclude: (path) => path === "a" || path === "many" || path === "sizes/zeros" }));
  assert.equal(members.get("b")?.entry.type, "file");
  assert.equal(members.get("b")?.content.toString(), "linked");
  assert.ok(![...members.keys()].some((path) => path === "a" || path.startsWith("many") || path === "sizes/zeros"));
});

const codeOf = (use: () => unknown): string => {
  try {
    use();
  } catch (error) {
    assert.ok(error instanceof Ext4ReadError || error instanceof TarError, String(error));
    return error.code;
  }
  return "none";
};

/** Takes everything out of a file system that there is. */
const readAll = (source: Uint8Array): void => {
  const reader = Ext4Reader.open(memorySource(source), { maxEntries: 10_000, maxMetadataBytes: 2 ** 26, maxHeldBytes: 2 ** 24 });
  let bytes = 0;
  for (const piece of ext4ToTar(reader)) bytes += piece.length;
  assert.ok(bytes < source.length + 2 ** 24, `${bytes} bytes of ${source.length}`);
  for (const piece of overlayUpperToTar(reader, { upper: ["x"] })) bytes += piece.length;
};

test("limits end a walk: entries, depth, length of a path, memory, metadata, size of a file", () => {
  const limited = (limits: object): string => codeOf(() => [...ext4ToTar(Ext4Reader.open(memorySource(image), limits))]);
  const all = [...open().walk()].length;
  assert.equal(limited({}), "none");
  assert.equal(limited({ maxEntries: all }), "none");
  assert.equal(limited({ maxEntries: all - 1 }), "LIMIT");
  assert.equal(limited({ maxDepth: 1 }), "LIMIT");
  assert.equal(limited({ maxPathBytes: 510 }), "LIMIT");
  assert.equal(limited({ maxHeldBytes: 50_000 }), "LIMIT");
  assert.equal(limited({ maxMetadataBytes: 50_000 }), "LIMIT");
  assert.equal(limited({ maxFileBytes: 999_999 }), "LIMIT");
  assert.equal(limited({ maxGroups: 0 }), "LIMIT");
});

test("a medium that is shorter than the file system on it is refused, at whatever byte it ends", () => {
  assert.equal(
    codeOf(() => open(image.subarray(0, 2047))),
    "NOT_EXT4",
  );
  for (const length of [2048, 4096, image.length / 2, image.length - 1])
    assert.equal(
      codeOf(() => open(image.subarray(0, length))),
      "MEDIUM",
    );
  assert.equal(
    codeOf(() => open(Buffer.alloc(1 << 20))),
    "NOT_EXT4",
  );
});

test("of an overlay that keeps its books in user.overlay.*, those are read, and otherwise they are attributes like any other", () => {
  const marked = buildInMemory([
    buildTar([
      { path: "u", type: "directory", xattrs: { "user.overlay.opaque": "y", "user.overlay.impure": "y" } },
      { path: "u/opaque", type: "directory", xattrs: { "user.overlay.opaque": "y", "user.kept": "k" } },
      { path: "u/marks", type: "directory", xattrs: { "user.overlay.opaque": "x" } },
      { path: "u/marks/gone", xattrs: { "user.overlay.whiteout": "" } },
      { path: "u/marks/not empty", content: "c", xattrs: { "user.overlay.whiteout": "" } },
      { path: "u/unmarked", xattrs: { "user.overlay.whiteout": "" } },
    ]),
  ]);
  const namesOf = (options: object): string[] => [...readTar(overlayUpperToTar(open(marked), { upper: ["u"], ...options })).keys()];
  const common = ["./", "marks/", "marks/gone", "marks/not empty", "opaque/", "unmarked"];
  assert.deepEqual(namesOf({}), common);
  assert.deepEqual(namesOf({ userxattr: true }), [
    "./",
    "marks/",
    "marks/.wh.gone",
    "marks/not empty",
    "opaque/",
    "opaque/.wh..wh..opq",
    "unmarked",
  ]);
  const kept = readTar(overlayUpperToTar(open(marked), { upper: ["u"], userxattr: true })).get("opaque/");
  assert.deepEqual([...(kept?.entry.xattrs.keys() ?? [])], ["user.kept"]);
  const moved = buildInMemory([buildTar([{ path: "u/d", type: "directory", xattrs: { "user.overlay.redirect": "/x" } }])]);
  assert.throws(() => [...overlayUpperToTar(open(moved), { upper: ["u"], userxattr: true })], { code: "OVERLAY_MARKER", message: /"\/d"/ });
});

interface Structure {
  readonly what: string;
  readonly at: number;
  readonly length: number;
}

/** The block that begins with these bytes. */
const blockThatBegins = (bytes: Buffer, begin: readonly number[]): number => {
  for (let at = 4096; at < bytes.length; at += 4096) if (bytes.subarray(at, at + begin.length).equals(Buffer.from(begin))) return at;
  assert.fail(`no block begins with ${begin.join(" ")}`);
};

const structuresOf = (bytes: Buffer): Structure[] => {
  const names = bytes.indexOf("so that the directory has an index");
  const leaf = names - (names % 4096);
  return [
    { what: "superblock", at: 1024, length: 1024 },
    { what: "group descriptor", at: 4096, length: 64 },
    ...[...open(bytes).walk()]
      .slice(0, 40)
      .map(({ path, inode }) => ({ what: `inode of ${path}`, at: bytes.indexOf(inode.raw), length: 256 })),
    { what: "block of names", at: leaf, length: 4084 },
    { what: "block of an extent tree", at: blockThatBegins(bytes, [0x0a, 0xf3]), length: 200 },
    { what: "block of attributes", at: blockThatBegins(bytes, [0, 0, 2, 0xea]), length: 4096 },
  ];
};

const METADATA_CSUM_BIT = (1024 + 0x64) * 8 + 10;

test("any flipped bit of the metadata is found by its checksum", { timeout: 60_000 }, () => {
  const content = Buffer.alloc(20 * 8192);
  for (let at = 0; at < content.length; at += 8192) content[at] = 1;
  const some = TREE.filter(({ path }) => !path.startsWith("sizes/") && !/many.*[0-9]{3}/.test(path));
  const small = buildInMemory([buildTar([...some, { path: "sizes/many-extents", content }])]);
  const structures = structuresOf(small);
  const place = fc
    .constantFrom(...structures)
    .chain(({ what, at, length }) => fc.record({ what: fc.constant(what), bit: fc.integer({ min: at * 8, max: (at + length) * 8 - 1 }) }));
  fc.assert(
    fc.property(place, ({ what, bit }) => {
      fc.pre(bit !== METADATA_CSUM_BIT);
      const flipped = Buffer.from(small);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(
        codeOf(() => readAll(flipped)),
        "none",
        `${what}, bit ${bit}`,
      );
    }),
    { numRuns: 400, seed: 6 },
  );
});

/** Without metadata_csum every changed byte reaches the parsers. */
const withoutChecksums = (bytes: Uint8Array): Buffer => {
  const out = Buffer.from(bytes);
  out.writeUInt32LE(out.readUInt32LE(1024 + 0x64) & ~0x400, 1024 + 0x64);
  return out;
};

test("a file system without checksums reads the same", () => {
  assert.deepEqual(listImage(open(withoutChecksums(image))), listImage(open()));
});

test("whatever the bytes of the metadata, there is a bounded result or a typed error", { timeout: 60_000 }, () => {
  const small = withoutChecksums(buildInMemory([buildTar(TREE.filter(({ path }) => !path.startsWith("many/")))]));
  const used: number[] = [];
  for (let at = 1024; at < small.length; at += 1) if ((small[at] ?? 0) !== 0 && (at < 4096 || at > 8192)) used.push(at);
  const value = fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff));
  const change = fc.record({ at: fc.constantFrom(...used), value });
  const codes = new Map<string, number>();
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 20 }), (changes) => {
      const bytes = Buffer.from(small);
      for (const { at, value } of changes) bytes[at] = value;
      const code = codeOf(() => readAll(bytes));
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }),
    { numRuns: 400, seed: 7 },
  );
  assert.ok(codes.size >= 4, JSON.stringify([...codes]));
});
