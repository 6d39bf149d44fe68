import assert from "node:assert/strict";
import { test } from "node:test";
import { buildTar } from "../../tar/tar-writer.fixture.ts";
import { Ext4ReadError, Ext4Reader, ext4ToTar } from "./index.ts";
import type { Ext4Inode, Ext4ReadErrorCode } from "./index.ts";
import { buildInMemory, memorySource } from "./reader.fixture.ts";

const holes = (stretches: number): Buffer => {
  const content = Buffer.alloc(stretches * 8192);
  for (let at = 0; at < content.length; at += 8192) content[at] = 1;
  return content;
};

const whole = buildInMemory([
  buildTar([
    { path: "alpha", type: "directory" },
    { path: "alpha/inner", type: "directory" },
    { path: "bravo", type: "directory" },
    { path: "bravo/first", content: "1" },
    { path: "bravo/other", content: "2" },
    { path: "two", content: holes(2) },
    { path: "tree", content: holes(20) },
    { path: "link", type: "symlink", link: "t".repeat(100) },
    {
      path: "marked",
      content: "x",
      xattrs: { "user.in": "inode", "user.big": "b".repeat(2000), "system.posix_acl_access": Buffer.from([2, 0, 0, 0]) },
    },
  ]),
]);

/** Without metadata_csum, so that changes reach what they are for. */
const plain = Buffer.from(whole);
plain.writeUInt32LE(plain.readUInt32LE(1024 + 0x64) & ~0x400, 1024 + 0x64);

const open = (bytes: Buffer): Ext4Reader => Ext4Reader.open(memorySource(bytes), { maxFileBytes: 2 ** 40 });

const inodeOf = (path: string): Ext4Inode => {
  for (const entry of open(plain).walk()) if (entry.path === path) return entry.inode;
  assert.fail(`no ${path}`);
};

const placeOf = (bytes: Uint8Array): number => {
  const at = plain.indexOf(bytes, 4096);
  assert.ok(at > 0 && !plain.includes(bytes, at + 1), "it is there once");
  return at;
};

const inodeAt = (path: string): number => placeOf(inodeOf(path).raw);
/** Where the directory entry of a name begins. */
const entryAt = (name: string): number => placeOf(Buffer.from(`${String.fromCharCode(name.length)}\u0002${name}`)) - 6;
const fileEntryAt = (name: string): number => placeOf(Buffer.from(`${String.fromCharCode(name.length)}\u0001${name}`)) - 6;
const extentsAt = (path: string): number => inodeAt(path) + 0x28;
const treeBlockAt = (): number => plain.readUInt32LE(extentsAt("tree") + 16) * 4096;
const xattrBlockAt = (): number => plain.readUInt32LE(inodeAt("marked") + 0x68) * 4096;

type Change = (bytes: Buffer) => unknown;

const CASES: readonly (readonly [string, Ext4ReadErrorCode, RegExp, Change])[] = [
  ["a directory in itself", "TREE", /alpha\/inner/, (b) => b.writeUInt32LE(inodeOf("alpha").number, entryAt("inner"))],
  ["the root in a directory", "TREE", /inode 2/, (b) => b.writeUInt32LE(2, entryAt("inner"))],
  ["a directory with two names", "TREE", /second name/, (b) => b.writeUInt32LE(inodeOf("bravo").number, entryAt("inner"))],
  ["the journal's inode with a name", "TREE", /inode 8/, (b) => b.writeUInt32LE(8, entryAt("inner"))],
  ["an entry out of the inodes", "DIRECTORY", /4000000000/, (b) => b.writeUInt32LE(4_000_000_000, entryAt("inner"))],
  ["an entry that leads to a free inode", "INODE", /free/, (b) => b.writeUInt32LE(open(b).inodeCount, entryAt("inner"))],
  ["a name with a slash", "DIRECTORY", /slash/, (b) => b.write("/", entryAt("inner") + 9)],
  ["a name with a zero byte", "DIRECTORY", /zero byte/, (b) => b.writeUInt8(0, entryAt("inner") + 9)],
  ["an empty name", "DIRECTORY", /empty/, (b) => b.writeUInt8(0, entryAt("inner") + 6)],
  ["a second dot", "DIRECTORY", /second/, (b) => b.writeUInt8(1, entryAt("inner") + 6) && b.write(".", entryAt("inner") + 8)],
  ["a name twice", "DIRECTORY", /twice/, (b) => b.write("other", fileEntryAt("first") + 8)],
  ["an entry without length", "DIRECTORY", /0 bytes/, (b) => b.writeUInt16LE(0, entryAt("inner") + 4)],
  ["an entry longer than its block", "DIRECTORY", /8192 bytes/, (b) => b.writeUInt16LE(8192, entryAt("inner") + 4)],
  ["a name longer than its entry", "DIRECTORY", /entry/, (b) => b.writeUInt16LE(12, entryAt("inner") + 4)],
  ["a directory with a hole", "DIRECTORY", /hole/, (b) => b.writeUInt32LE(8192, inodeAt("alpha/inner") + 4)],
  ["an empty directory without blocks", "DIRECTORY", /size/, (b) => b.writeUInt32LE(0, inodeAt("alpha/inner") + 4)],
  ["a node that is none", "BLOCK_MAP", /none/, (b) => b.writeUInt16LE(0, extentsAt("two"))],
  ["extents that overlap", "BLOCK_MAP", /overlaps/, (b) => b.writeUInt32LE(0, extentsAt("two") + 24)],
  ["an empty extent", "BLOCK_MAP", /0 blocks/, (b) => b.writeUInt16LE(0, extentsAt("two") + 16)],
  ["an extent out of the file system", "BLOCK_MAP", /out of the file system/, (b) => b.writeUInt32LE(4_000_000_000, extentsAt("two") + 20)],
  ["an extent over the superblock", "BLOCK_MAP", /at 0/, (b) => b.writeUInt32LE(0, extentsAt("two") + 20)],
  ["more records than a node has", "BLOCK_MAP", /5 of 4/, (b) => b.writeUInt16LE(5, extentsAt("two") + 2)],
  ["a tree of six levels", "BLOCK_MAP", /6 levels/, (b) => b.writeUInt16LE(6, extentsAt("two") + 6)],
  ["a node below itself", "BLOCK_MAP", /depth/, (b) => b.writeUInt16LE(2, extentsAt("tree") + 6)],
  ["a node that is out of place", "BLOCK_MAP", /out of its place/, (b) => b.writeUInt32LE(1, extentsAt("tree") + 12)],
  ["a node out of the file system", "BLOCK_MAP", /out of the file system/, (b) => b.writeUInt16LE(1, extentsAt("tree") + 20)],
  ["a leaf with a wrong depth", "BLOCK_MAP", /depth/, (b) => b.writeUInt16LE(1, treeBlockAt() + 6)],
  ["a file of 2^62 bytes", "INODE", /impossible size/, (b) => b.writeUInt32LE(2 ** 30, inodeAt("two") + 0x6c)],
  ["a file over the limit", "LIMIT", /more than/, (b) => b.writeUInt32LE(2 ** 10, inodeAt("two") + 0x6c)],
  ["a deleted file with a name", "INODE", /deleted/, (b) => b.writeUInt16LE(0, inodeAt("two") + 0x1a)],
  [
    "the owner -1",
    "NOT_REPRESENTABLE",
    /"\/two"/,
    (b) => b.writeUInt16LE(0xffff, inodeAt("two") + 2) && b.writeUInt16LE(0xffff, inodeAt("two") + 0x78),
  ],
  ["an unknown type", "INODE", /type/, (b) => b.writeUInt16LE(0o170_000, inodeAt("two"))],
  ["extra fields beyond the inode", "INODE", /extra/, (b) => b.writeUInt16LE(200, inodeAt("two") + 0x80)],
  ["two thousand million nanoseconds", "INODE", /nanoseconds/, (b) => b.writeUInt32LE(0xffff_fffc, inodeAt("two") + 0x88)],
  [
    "an encrypted file",
    "UNSUPPORTED",
    /encrypted/,
    (b) => b.writeUInt32LE(b.readUInt32LE(inodeAt("two") + 0x20) | 0x800, inodeAt("two") + 0x20),
  ],
  ["a symlink of 5,000 bytes", "INODE", /5000/, (b) => b.writeUInt32LE(5000, inodeAt("link") + 4)],
  ["an empty symlink", "INODE", /0 bytes/, (b) => b.writeUInt32LE(0, inodeAt("link") + 4)],
  ["a symlink longer than its content", "INODE", /zero byte/, (b) => b.writeUInt32LE(200, inodeAt("link") + 4)],
  ["attributes out of the file system", "XATTR", /out of the file system/, (b) => b.writeUInt32LE(4_000_000_000, inodeAt("marked") + 0x68)],
  ["attributes where there are none", "XATTR", /holds none/, (b) => b.writeUInt32LE(1, inodeAt("marked") + 0x68)],
  ["a value out of its block", "XATTR", /out of its place/, (b) => b.writeUInt32LE(5000, xattrBlockAt() + 32 + 8)],
  ["a value over the names", "XATTR", /out of its place/, (b) => b.writeUInt16LE(0, xattrBlockAt() + 32 + 2)],
  ["names without an end", "XATTR", /end/, (b) => b.fill(0x77, xattrBlockAt() + 32, xattrBlockAt() + 4096)],
  ["a value in an inode that is none", "XATTR", /which is none/, (b) => b.writeUInt32LE(inodeOf("two").number, xattrBlockAt() + 32 + 4)],
  [
    "an attribute twice",
    "XATTR",
    /twice/,
    (b) => b.write("in\0", b.indexOf("big", xattrBlockAt())) && b.writeUInt8(2, xattrBlockAt() + 32),
  ],
  ["inodes out of the file system", "GROUP", /group 0/, (b) => b.writeUInt32LE(4_000_000_000, 4096 + 8)],
  ["no inodes in a group", "SUPERBLOCK", /0 inodes/, (b) => b.writeUInt32LE(0, 1024 + 0x28)],
  ["too many blocks in a group", "SUPERBLOCK", /blocks in a group/, (b) => b.writeUInt32LE(40_000, 1024 + 0x20)],
  ["no blocks in a group", "SUPERBLOCK", /0 blocks/, (b) => b.writeUInt32LE(0, 1024 + 0x20)],
  ["other inodes than its groups have", "SUPERBLOCK", /inodes/, (b) => b.writeUInt32LE(b.readUInt32LE(1024) + 1, 1024)],
  ["blocks of 1 GiB", "SUPERBLOCK", /2\^20/, (b) => b.writeUInt32LE(20, 1024 + 0x18)],
  ["inodes of 96 bytes", "SUPERBLOCK", /96/, (b) => b.writeUInt16LE(96, 1024 + 0x58)],
  ["descriptors of 48 bytes", "SUPERBLOCK", /48/, (b) => b.writeUInt16LE(48, 1024 + 0xfe)],
  ["a feature of the future", "UNSUPPORTED", /0x80000000/, (b) => b.writeUInt8(0x80, 1024 + 0x63)],
  ["encryption", "UNSUPPORTED", /encrypt/, (b) => b.writeUInt8(0x01, 1024 + 0x62)],
  [
    "a journal to be replayed where there is none",
    "UNSUPPORTED",
    /recovery/,
    (b) => b.writeUInt8(b.readUInt8(1024 + 0x60) | 4, 1024 + 0x60),
  ],
  ["a medium that is too small", "MEDIUM", /blocks/, (b) => b.writeUInt32LE(b.readUInt32LE(1024 + 4) + 1, 1024 + 4)],
];

const readAll = (bytes: Buffer): number => {
  let length = 0;
  for (const piece of ext4ToTar(open(bytes))) length += piece.length;
  return length;
};

for (const [what, code, message, change] of CASES) {
  test(`${what} is refused`, () => {
    assert.ok(readAll(plain) > 0);
    const bytes = Buffer.from(plain);
    change(bytes);
    assert.throws(
      () => readAll(bytes),
      (error) => {
        assert.ok(error instanceof Ext4ReadError, String(error));
        assert.match(error.message, message);
        assert.equal(error.code, code, error.message);
        return true;
      },
    );
  });
}

test("blocks that belong to many files do not make a tar that is larger than the medium", () => {
  const count = 300;
  const names = Array.from({ length: count }, (_, index) => `file-${index}`);
  const bytes = buildInMemory([buildTar(names.map((path) => ({ path, content: path })))]);
  bytes.writeUInt32LE(bytes.readUInt32LE(1024 + 0x64) & ~0x400, 1024 + 0x64);
  const blocks = open(bytes).blockCount;
  for (const { inode } of [...open(bytes).walk()].slice(1)) {
    const at = bytes.indexOf(inode.raw, 4096);
    bytes.writeUInt32LE((blocks - 1) * 4096, at + 4);
    bytes.writeUInt16LE(blocks - 1, at + 0x28 + 16);
    bytes.writeUInt32LE(1, at + 0x28 + 20);
  }
  let length = 0;
  assert.throws(
    () => {
      for (const piece of ext4ToTar(open(bytes))) length += piece.length;
    },
    { name: "Ext4ReadError", code: "LIMIT" },
  );
  assert.ok(length < bytes.length * 3, `${length} of ${bytes.length}`);
});

test("a source that gives less than was asked for is found out, and what a source throws is passed on", () => {
  const { read } = memorySource(plain);
  for (const upTo of [0, 1024])
    assert.throws(() => Ext4Reader.open({ sizeBytes: plain.length, read: (at, length) => read(at, length > upTo ? length - 1 : length) }), {
      name: "Ext4ReadError",
      code: "MEDIUM",
    });
  const error = new RangeError("no such disk");
  assert.throws(
    () =>
      Ext4Reader.open({
        sizeBytes: plain.length,
        read: () => {
          throw error;
        },
      }),
    error,
  );
});
