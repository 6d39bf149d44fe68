import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertClean, assertSameTree, listTree, skipMount, withMount, withScratch } from "../image.fixture.ts";
import { Ext4ReadError, ext4ToTar } from "./index.ts";
import { listImage, withImage } from "./reader.fixture.ts";

const MIB = 2 ** 20;

const run = (command: string, ...args: string[]): void => void execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"] });

/** Data at each of `places`, holes between. */
const writeSparse = (path: string, places: readonly number[], sizeBytes: number): void => {
  const fd = openSync(path, "w");
  for (const at of places) writeSync(fd, Buffer.from(`data at ${at}`), 0, null, at);
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
};

const fillTree = (directory: string, options: readonly string[] = []): void => {
  const at = (path: string): string => join(directory, path);
  for (const path of ["d", "d/e", "d/empty", "many"]) mkdirSync(at(path));
  for (const size of [0, 1, 40, 59, 60, 61, 100, 150, 1024, 4095, 4096, 4097, 70_000, 3 * MIB])
    writeFileSync(at(`d/size-${size}`), Buffer.alloc(size, `${size}.`));
  for (const length of [1, 59, 60, 61, 100, 1000]) symlinkSync("t".repeat(length), at(`d/e/symlink-${length}`));
  linkSync(at("d/size-60"), at("a link"));
  writeFileSync(Buffer.concat([Buffer.from(`${directory}/not-utf8-`), Buffer.from([0xff, 0xfe])]), "x");
  writeSparse(
    at("holes"),
    Array.from({ length: 400 }, (_, index) => index * 16_384),
    400 * 16_384 + 5,
  );
  // with blocks of 1 KiB the last of these is behind three levels of indirect blocks, with 4 KiB behind two
  const far = options.includes("1024") ? 70 * MIB : 5 * MIB;
  writeSparse(at("far holes"), [5000, 11_000, 13_000, 300_000, far, far + 5000], far + MIB);
  for (let index = 0; index < 300; index += 1) writeFileSync(at(`many/a rather long name, so that there is an index ${index}`), "");
  run("mknod", at("null"), "c", "1", "3");
  run("mknod", at("big device"), "b", "259", "70000");
  run("mkfifo", at("pipe"));
  run("chown", "70000:4294967294", at("d/size-61"), at("d/e"));
  run("chmod", "4755", at("d/size-61"));
  run("chmod", "1777", at("d/e"));
  run("touch", "-d", "1930-05-05 12:00:00.25 UTC", at("d/size-1"));
  run("touch", "-d", "2200-05-05 12:00:00.125 UTC", at("d/size-0"));
  run("setfattr", "-n", "user.small", "-v", "v", at("d/size-59"));
  run("setfattr", "-n", "user.empty", at("d/size-59"));
  run("setfattr", "-n", "trusted.t", "-v", "t".repeat(700), at("d/size-61"));
  run("setfattr", "-n", "security.capability", "-v", "0x0100000200040000000000000000000000000000", at("d/size-61"));
  run("setfattr", "-n", "user.on a directory", "-v", "d".repeat(200), at("d/e"));
  run("setfattr", "-n", "system.posix_acl_access", "-v", ACL, at("d/size-150"));
};

/** user::rw-, user:1000:r--, group::r--, mask::r--, other::--- */
const ACL = `0x02000000${["01000600ffffffff", "02000400e8030000", "04000400ffffffff", "10000400ffffffff", "20000000ffffffff"].join("")}`;

/** What the kernel itself makes: an index that has grown and shrunk, unwritten extents, appended and truncated files, a socket. */
const changeByKernel = (directory: string, changes: { readonly withExtents: boolean; readonly files: number }): void => {
  const at = (path: string): string => join(directory, path);
  for (let index = 0; index < changes.files; index += 1) writeFileSync(at(`many/another long name of a file in there ${index}`), "");
  for (let index = 0; index < changes.files; index += 3) unlinkSync(at(`many/another long name of a file in there ${index}`));
  if (changes.withExtents) {
    run("fallocate", "-l", "300000", at("unwritten"));
    run("fallocate", "--keep-size", "-o", "0", "-l", "400000", at("d/size-4097"));
  }
  run("cp", at("holes"), at("copy of holes"));
  truncateSync(at("d/size-70000"), 33_333);
  writeFileSync(at("d/size-40"), "s".repeat(5000), { flag: "a" });
  linkSync(at("d/e/symlink-61"), at("z link to a symlink"));
  run("python3", "-c", "import socket,sys,os; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind('socket')", directory);
};

const SETS: readonly (readonly [string, readonly string[]])[] = [
  ["the default features", []],
  ["blocks of 1 KiB", ["-b", "1024"]],
  ["blocks of 2 KiB", ["-b", "2048", "-I", "512"]],
  ["ext2: indirect blocks, no journal", ["-t", "ext2"]],
  ["ext2 with blocks of 1 KiB and inodes of 128 bytes", ["-t", "ext2", "-b", "1024", "-I", "128"]],
  ["ext3", ["-t", "ext3"]],
  ["ext4 without extents", ["-O", "^extents,^64bit"]],
  ["no checksums", ["-O", "^metadata_csum"]],
  ["checksums of groups alone", ["-O", "^metadata_csum,uninit_bg"]],
  ["no 64bit", ["-O", "^64bit"]],
  ["inodes of 1 KiB", ["-I", "1024"]],
  ["a seed for checksums", ["-O", "metadata_csum_seed,orphan_file"]],
  ["inline data", ["-O", "inline_data"]],
  ["inline data in inodes of 1 KiB", ["-O", "inline_data", "-I", "1024", "-b", "1024"]],
  ["clusters", ["-O", "bigalloc", "-C", "16384"]],
  ["meta groups", ["-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"]],
  ["sparse_super2 and large directories", ["-O", "sparse_super2,large_dir,^resize_inode"]],
];

const makeImage = (scratch: string, options: readonly string[], tree: string): string => {
  const image = join(scratch, "image");
  writeFileSync(image, "");
  truncateSync(image, 96 * MIB);
  const type = options.includes("-t") ? [] : ["-t", "ext4"];
  const blocks = options.includes("-b") ? [] : ["-b", "4096"];
  run("mke2fs", "-q", "-F", ...type, ...blocks, ...options, "-d", tree, image);
  return image;
};

/** Of a tree that mke2fs has copied: it rounds times to seconds, makes the root and lost+found itself, and with inline data forgets a hole at the end. */
const comparable = (listing: ReadonlyMap<string, string>, options: readonly string[]): Map<string, string> =>
  new Map(
    [...listing]
      .filter(([path]) => path !== "." && path !== "./lost+found" && !(path.endsWith("holes") && options.includes("inline_data")))
      .map(([path, entry]) => [path, entry.replace(/mtime [-0-9]+; /, "").replace(/first [^;]*; /, "")]),
  );

for (const [what, options] of SETS) {
  test(`${what}: as the tree that mke2fs has copied, and as a mount shows it`, { skip: skipMount }, () => {
    withScratch((scratch) => {
      const tree = join(scratch, "tree");
      mkdirSync(tree);
      fillTree(tree, options);
      const image = makeImage(scratch, options, tree);
      assertSameTree(comparable(withImage(image, listImage), options), comparable(listTree(tree), options));
      const withExtents = !options.some((option) => option === "ext2" || option === "ext3" || option.includes("^extents"));
      // so many that with blocks of 1 KiB the index has two levels
      const files = options[0] === "-b" ? 2500 : 300;
      withMount(image, "rw", (mounted) => changeByKernel(mounted, { withExtents, files }));
      assertClean(image);
      const expected = withMount(image, "ro", listTree);
      assertSameTree(withImage(image, listImage), expected);
      assert.match(expected.get("./d/size-59") ?? "", /user.small=0x76/);
      if (withExtents) assert.match(expected.get("./unwritten") ?? "", /size 300000/);
      unpackedAs(scratch, image, expected);
    });
  });
}

/** The tar of the image, unpacked by GNU tar, is the same tree, but for sockets, and lost+found if it is empty. */
const unpackedAs = (scratch: string, image: string, expected: ReadonlyMap<string, string>): void => {
  const tar = join(scratch, "tar");
  const unpacked = join(scratch, "unpacked");
  mkdirSync(unpacked);
  const fd = openSync(tar, "w");
  withImage(image, (reader) => {
    for (const piece of ext4ToTar(reader)) writeSync(fd, piece);
  });
  closeSync(fd);
  run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpSf", tar, "-C", unpacked);
  const actual = listTree(unpacked);
  const kept = new Map([...expected].filter(([path, entry]) => path !== "./lost+found" && !entry.startsWith("mode 140")));
  assert.equal(expected.size, kept.size + 2);
  assertSameTree(actual, kept);
};

test("attributes that fill a block or have inodes of their own read as the kernel shows them", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const tree = join(scratch, "tree");
    mkdirSync(tree);
    const image = makeImage(scratch, ["-O", "ea_inode"], tree);
    withMount(image, "rw", (mounted) => {
      const file = join(mounted, "file");
      writeFileSync(file, "");
      for (const [name, length] of [
        ["a", 3000],
        ["b", 40_000],
        ["c", 20_000],
        ["d", 5],
      ] as const)
        run("setfattr", "-n", `user.${name}`, "-v", `0x${"0a3d".repeat(length / 2)}`, file);
    });
    const expected = withMount(image, "ro", listTree);
    assert.match(expected.get("./file") ?? "", /user.b=0x(0a3d){20000};/);
    assertSameTree(withImage(image, listImage), expected);
  });
});

test("blocks of 64 KiB, larger than most kernels mount", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const tree = join(scratch, "tree");
    mkdirSync(tree);
    fillTree(tree);
    const image = makeImage(scratch, ["-b", "65536", "-F"], tree);
    assertSameTree(comparable(withImage(image, listImage), []), comparable(listTree(tree), []));
  });
});

for (const [feature, options] of [
  ["encrypt", ["-O", "encrypt"]],
  ["casefold", ["-O", "casefold"]],
  ["journal_dev", ["-O", "journal_dev"]],
] as const) {
  test(`the feature ${feature} is refused by its name`, () => {
    withScratch((scratch) => {
      const image = join(scratch, "image");
      writeFileSync(image, "");
      truncateSync(image, 16 * MIB);
      run("mke2fs", "-q", "-F", "-t", "ext4", ...options, image);
      assert.throws(
        () => withImage(image, () => undefined),
        (error) => error instanceof Ext4ReadError && error.code === "UNSUPPORTED" && error.message.includes(feature),
      );
    });
  });
}
