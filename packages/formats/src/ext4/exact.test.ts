/** What an entry can say, to the last case: each length, each limit and one beyond it, read back by the kernel. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, lstatSync, openSync, readFileSync, readlinkSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TarError } from "../tar/index.ts";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import { Ext4Error } from "./index.ts";
import { acl, assertClean, buildImage, listTree, skipMount, withMount, withScratch } from "./image.fixture.ts";

/** Builds and mounts one layer; `look` sees the mounted root. */
const mounted = (specs: readonly TarSpec[], look: (root: string) => void): void =>
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [buildTar(specs)]);
    assertClean(image);
    withMount(image, "ro", look);
  });

const refuses = (specs: readonly TarSpec[], code: string): void =>
  withScratch((scratch) => {
    assert.throws(
      () => buildImage(join(scratch, "image"), [buildTar(specs)]),
      (error) => (error instanceof Ext4Error || error instanceof TarError) && error.code === code,
      code,
    );
  });

const BLOCK = 4096;
/** Where each sparse file has data: from a byte to another; the last number is its size. */
const SPARSE: Readonly<Record<string, { readonly data: readonly (readonly [from: number, to: number])[]; readonly size: number }>> = {
  "a hole and nothing else": { data: [], size: 3_000_000 },
  "a hole in front": { data: [[2_000_000, 2_000_001]], size: 2_000_001 },
  "a hole at the end": { data: [[0, 5000]], size: 9_000_001 },
  "holes between, not at the edges of blocks": {
    data: [
      [1, 4097],
      [100_001, 100_002],
      [1_048_575, 1_056_769],
    ],
    size: 2_000_003,
  },
  "more pieces than a header and four of its extensions hold": {
    data: Array.from({ length: 120 }, (_, index) => [index * 65_536, index * 65_536 + 10] as const),
    size: 120 * 65_536,
  },
  "data behind 8 GiB": { data: [[2 ** 33 + 12_345, 2 ** 33 + 12_350]], size: 2 ** 33 + 100_000 },
};

const blocksOf = (data: readonly (readonly [number, number])[]): number =>
  new Set(
    data.flatMap(([from, to]) =>
      Array.from({ length: Math.ceil(to / BLOCK) - Math.floor(from / BLOCK) }, (_, index) => Math.floor(from / BLOCK) + index),
    ),
  ).size;

const writeSparse = (path: string, { data, size }: (typeof SPARSE)[string]): void => {
  const fd = openSync(path, "w");
  try {
    for (const [from, to] of data) writeSync(fd, Buffer.alloc(to - from, 0x64), 0, to - from, from);
    ftruncateSync(fd, size);
  } finally {
    closeSync(fd);
  }
};

for (const format of [["gnu"], ["posix", "--sparse-version=0.0"], ["posix", "--sparse-version=0.1"], ["posix", "--sparse-version=1.0"]]) {
  test(`holes of sparse files stay holes, and the rest reads as it was: ${format.join(" ")}`, { skip: skipMount }, () => {
    withScratch((scratch) => {
      const [name = "", ...more] = format;
      const names = Object.keys(SPARSE);
      for (const [file, shape] of Object.entries(SPARSE)) writeSparse(join(scratch, file), shape);
      const options = ["-S", "--hole-detection=seek", `--format=${name}`, ...more];
      const tar = execFileSync("tar", ["-C", scratch, ...options, "-cf", "-", "--", ...names], { maxBuffer: 1 << 28 });
      const image = join(scratch, "image");
      buildImage(image, [tar]);
      assertClean(image);
      withMount(image, "ro", (root) => {
        for (const [file, { data, size }] of Object.entries(SPARSE)) {
          const stat = statSync(join(root, file));
          assert.equal(stat.size, size, file);
          const treeBlocks = data.length > 4 ? 1 : 0;
          assert.equal(stat.blocks / 8, blocksOf(data) + treeBlocks, `${file}: blocks`);
          // what lies before the last megabytes of the largest is a hole, as its blocks say
          execFileSync("cmp", [`--ignore-initial=${Math.max(size - 10_000_000, 0)}`, join(root, file), join(scratch, file)]);
        }
      });
    });
  });
}

test("symlinks of every length that there is are read back: below 60 bytes in the inode, else in a block", { skip: skipMount }, () => {
  const targets = Array.from({ length: 4095 }, (_, index) => `${index + 1}/${"t".repeat(5000)}`.slice(0, index + 1));
  mounted(
    targets.map((link, index): TarSpec => ({ path: `l${index + 1}`, type: "symlink", link })),
    (root) => {
      for (const [index, target] of targets.entries()) {
        const path = join(root, `l${index + 1}`);
        assert.equal(readlinkSync(path), target);
        assert.deepEqual([lstatSync(path).size, lstatSync(path).blocks], [target.length, target.length < 60 ? 0 : 8]);
      }
    },
  );
});

test("a symlink that is empty, or longer than a path can be, is refused", () => {
  const symlink = (length: number): TarSpec[] => [{ path: "l", type: "symlink", link: "t".repeat(length) }];
  refuses(symlink(0), "SYMLINK_INVALID");
  refuses(symlink(4096), "SYMLINK_INVALID");
  refuses(symlink(4097), "LIMIT");
});

test("a symlink in the inode may have attributes in a block", { skip: skipMount }, () => {
  const label = "l".repeat(2000);
  mounted([{ path: "l", type: "symlink", link: "t".repeat(59), xattrs: { "trusted.label": label } }], (root) => {
    assert.equal(readlinkSync(join(root, "l")), "t".repeat(59));
    assert.match(listTree(root).get("./l") ?? "", new RegExp(`trusted.label=0x${Buffer.from(label).toString("hex")}`));
  });
});

const NS = 1_000_000_000n;
/** The ends of the four ages of 2^32 seconds that two more bits tell apart; the first begins in 1901, the last ends in 2446. */
const AGES = [0, 1, 2, 3].flatMap((age) => {
  const start = BigInt(age) * 2n ** 32n - 2n ** 31n;
  return [start * NS + 1n, (start + 1n) * NS, (start + 2n ** 31n) * NS - 1n, (start + 2n ** 31n) * NS, (start + 2n ** 32n - 1n) * NS - 1n];
});

const asPaxTime = (ns: bigint): string => {
  const [whole, rest] = [ns < 0n ? -ns / NS : ns / NS, (ns < 0n ? -ns : ns) % NS];
  return `${ns < 0n ? "-" : ""}${whole}.${String(rest).padStart(9, "0")}`;
};

test("times are kept to the nanosecond from 1901 to 2446", { skip: skipMount }, () => {
  const [first] = AGES;
  assert.equal(first, -(2n ** 31n) * NS + 1n);
  const times = AGES.slice(1);
  mounted(
    times.map((ns, index) => ({ path: `f${index}`, mtime: asPaxTime(ns) })),
    (root) => {
      for (const [index, ns] of times.entries()) {
        const { mtimeNs, atimeNs, ctimeNs } = lstatSync(join(root, `f${index}`), { bigint: true });
        assert.deepEqual([mtimeNs, atimeNs, ctimeNs], [ns, ns, ns], asPaxTime(ns));
      }
    },
  );
});

test("owners are kept from 0 to the last there is, and no other is taken", { skip: skipMount }, () => {
  const owners = [0, 1, 65_534, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2];
  mounted(
    owners.map((id) => ({ path: `f${id}`, uid: id, gid: owners.at(-1) === id ? 0 : id + 1 })),
    (root) => {
      for (const id of owners) {
        const { uid, gid } = lstatSync(join(root, `f${id}`));
        assert.deepEqual([uid, gid], [id, owners.at(-1) === id ? 0 : id + 1]);
      }
    },
  );
  for (const id of ["4294967295", "4294967296", "99999999999"]) {
    refuses([{ path: "f", pax: { uid: id } }], "NUMBER");
    refuses([{ path: "f", pax: { gid: id } }], "NUMBER");
  }
});

const FITS_INODE = 88 - 16 - 4;
const FITS_BLOCK = 4060 - 16 - 4;

test("attributes fill the room in the inode and a block to the last byte, and one byte more is refused", { skip: skipMount }, () => {
  const value = (length: number): string => "v".repeat(length);
  const expected: Readonly<Record<string, readonly [xattrs: Readonly<Record<string, string>>, blocks: number]>> = {
    inode: [{ "user.a": value(FITS_INODE) }, 0],
    more: [{ "user.a": value(FITS_INODE + 1) }, 8],
    block: [{ "user.a": value(FITS_BLOCK) }, 8],
    both: [{ "user.a": value(FITS_INODE), "user.b": value(FITS_BLOCK) }, 8],
    "a name of 255 bytes": [{ [`user.${value(250)}`]: "v" }, 8],
    "many empty": [Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`user.${String(index).padStart(4, "0")}`, ""])), 8],
    // in the order of their names the small one would take the room in the inode that the large one needs
    "only one way": [{ "user.a": value(20), "user.b": value(FITS_INODE), "user.c": value(4060 - 40 - 20) }, 8],
  };
  const files = Object.entries(expected).map(([path, [xattrs]]): TarSpec => ({ path, xattrs }));
  mounted(files, (root) => {
    const listing = listTree(root);
    for (const [path, [xattrs, blocks]] of Object.entries(expected)) {
      assert.equal(lstatSync(join(root, path)).blocks, blocks, path);
      for (const [name, text] of Object.entries(xattrs))
        assert.ok(listing.get(`./${path}`)?.includes(`${name}${text === "" ? "" : `=0x${Buffer.from(text).toString("hex")}`}`), path);
    }
  });
  refuses([{ path: "f", xattrs: { "user.a": value(FITS_BLOCK + 1) } }], "XATTR_TOO_LARGE");
  refuses([{ path: "f", xattrs: { "user.a": value(FITS_INODE), "user.b": value(FITS_BLOCK), "user.c": "" } }], "XATTR_TOO_LARGE");
  refuses([{ path: "f", xattrs: { [`user.${value(251)}`]: "v" } }], "XATTR_TOO_LARGE");
});

const OWNER = [1, 7] as const;
const USER = [2, 5, 1000] as const;
const GROUP_OWNER = [4, 4] as const;
const GROUP = [8, 6, 42] as const;
const MASK = [16, 5] as const;
const OTHERS = [32, 1] as const;

test("an access ACL decides the mode, is not kept where it says no more, and is what the kernel makes of it", { skip: skipMount }, () => {
  const access = (value: Buffer) => ({ "system.posix_acl_access": value });
  const [full, minimal] = [acl(OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHERS), acl(OWNER, GROUP_OWNER, OTHERS)];
  const specs: TarSpec[] = [
    { path: "full", mode: 0o4600, xattrs: access(full) },
    { path: "minimal", mode: 0o2600, xattrs: access(minimal) },
    { path: "empty", mode: 0o640, xattrs: access(acl()) },
  ];
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [buildTar(specs)]);
    assertClean(image);
    // the same by the kernel, on a file that begins without an ACL
    execFileSync("mke2fs", ["-q", "-t", "ext4", join(scratch, "theirs"), "4M"]);
    const describe = (root: string): unknown[] =>
      specs.map(({ path }) => [
        lstatSync(join(root, path)).mode.toString(8),
        /system\.\S*/.exec(listTree(root).get(`./${path}`) ?? "")?.[0],
      ]);
    const theirs = withMount(join(scratch, "theirs"), "rw", (root) => {
      for (const { path, mode = 0, xattrs = {} } of specs) {
        execFileSync("install", ["-m", mode.toString(8), "/dev/null", join(root, path)]);
        for (const [name, value] of Object.entries(xattrs))
          execFileSync("setfattr", ["-n", name, "-v", `0x${Buffer.from(value).toString("hex")}`, join(root, path)]);
      }
      return describe(root);
    });
    withMount(image, "ro", (root) => assert.deepEqual(describe(root), theirs));
  });
});

test("an ACL that the kernel would refuse is refused", () => {
  const bad: readonly Buffer[] = [
    acl(OWNER, OTHERS),
    acl(OWNER, USER, GROUP_OWNER, OTHERS),
    acl(OWNER, OTHERS, GROUP_OWNER),
    acl(OWNER, OWNER, GROUP_OWNER, OTHERS),
    acl([1, 8], GROUP_OWNER, OTHERS),
    acl(OWNER, [2, 7], GROUP_OWNER, MASK, OTHERS),
    acl(OWNER, GROUP_OWNER, OTHERS, [64, 7]),
    acl(OWNER, GROUP_OWNER, OTHERS).subarray(0, 27),
    Buffer.concat([Buffer.from([1, 0, 0, 0]), acl(OWNER, GROUP_OWNER, OTHERS).subarray(4)]),
  ];
  for (const value of bad) {
    refuses([{ path: "f", xattrs: { "system.posix_acl_access": value } }], "XATTR_INVALID");
    refuses([{ path: "d", type: "directory", xattrs: { "system.posix_acl_default": value } }], "XATTR_INVALID");
  }
});

test("a path is the same with ./, slashes in front, in between and behind, and dots; it never climbs", { skip: skipMount }, () => {
  const spellings = ["a/f", "./a/f", "/a/f", "//a//f", "./././a/./f", "a/f/."];
  for (const path of spellings)
    mounted(
      [
        { path: "./a/", type: "directory", mode: 0o700 },
        { path, content: "x" },
        { path: "l", type: "hardlink", link: path },
      ],
      (root) => {
        assert.equal(readFileSync(join(root, "a/f"), "utf8"), "x", path);
        assert.deepEqual([...listTree(root).keys()], [".", "./a", "./a/f", "./l"], path);
        assert.deepEqual([lstatSync(join(root, "a")).mode & 0o777, lstatSync(join(root, "l")).nlink], [0o700, 2], path);
      },
    );
  for (const path of ["..", "../f", "/../f", "a/..", "a/../f", "./../f", ".wh...", "a/.wh...", ".wh."]) {
    refuses([{ path }], "PATH_UNSAFE");
    if (!path.includes(".wh.")) refuses([{ path: "l", type: "hardlink", link: path }], "PATH_UNSAFE");
  }
});
