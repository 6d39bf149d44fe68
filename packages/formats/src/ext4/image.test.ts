import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, lstatSync, mkdirSync, openSync, readFileSync, readSync, statSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { Ext4Error } from "./index.ts";
import { TarError } from "../tar/index.ts";
import { buildTar, sealHeader } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import { acl, assertClean, assertSameTree, buildImage, listTree, skipMount, withMount, withScratch } from "./image.fixture.ts";

const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex");
/** Version 3: as version 2, and the root of the user namespace that may use it. */
const CAPABILITY_3 = Buffer.from("010000030004000000000000000000000000000064000000", "hex");
const ACCESS_ACL = acl([1, 6], [2, 4, 1000], [4, 4], [8, 6, 2000], [16, 6], [32, 0]);

const EVERYTHING: readonly TarSpec[] = [
  { path: "./", type: "directory", mode: 0o755, mtime: "1600000000.5" },
  { path: "modes", type: "directory", mode: 0o1777, uid: 1, gid: 2, mtime: "1.000000001" },
  { path: "modes/suid", content: "x", mode: 0o4755, uid: 4_294_967_294, gid: 100_000 },
  { path: "modes/sgid", content: "", mode: 0o2711, mtime: "-2.25" },
  { path: "modes/far", content: "", mode: 0, mtime: "15000000000.999999999" },
  { path: "links/a", content: "linked", uid: 5 },
  { path: "links/b", type: "hardlink", link: "links/a" },
  { path: "c", type: "hardlink", link: "/links/b" },
  { path: "dev/null", type: "character", device: [1, 3], mode: 0o666 },
  { path: "dev/big", type: "block", device: [259, 70_000], mode: 0o660 },
  { path: "dev/pipe", type: "fifo", mode: 0o600, uid: 7 },
  ...[1, 59, 60, 61, 4095].map((length) => ({
    path: `symlinks/${length}`,
    type: "symlink" as const,
    link: "s".repeat(length),
    uid: 9,
    mtime: "12.5",
  })),
  { path: `${"n".repeat(255)}/${"m".repeat(255)}`, content: "long" },
  { path: "not-utf8-\xff\xfe", content: "bytes" },
  { path: "x/small", content: "x", xattrs: { "user.small": "v", "security.capability": CAPABILITY } },
  { path: "x/empty", content: "x", xattrs: { "user.empty": "" } },
  {
    path: "x/large",
    content: "x",
    xattrs: { "user.large": Buffer.alloc(3000, 0x61), "user.b": "b", "trusted.t": "t".repeat(60), "security.capability": CAPABILITY },
  },
  { path: "x/acl", content: "x", mode: 0o660, xattrs: { "system.posix_acl_access": ACCESS_ACL } },
  {
    path: "x/dir",
    type: "directory",
    mode: 0o755,
    xattrs: { "system.posix_acl_default": acl([1, 7], [2, 5, 3], [4, 5], [16, 7], [32, 5]), "user.d": "d" },
  },
  { path: "x/capability3", content: "x", xattrs: { "security.capability": CAPABILITY_3 } },
  { path: "x/full", content: "x", xattrs: { "user.full": Buffer.alloc(4032, 0x62), "user.s": "in the inode" } },
  { path: "sizes/4095", content: Buffer.alloc(4095, 1) },
  { path: "sizes/4096", content: Buffer.alloc(4096, 2) },
  { path: "sizes/4097", content: Buffer.alloc(4097, 3) },
  { path: "sizes/zeros", content: Buffer.alloc(100_000) },
];

const NS = 1_000_000_000n;
/** 34 bits of seconds from 1901 on. */
const LAST_SECOND = 2n ** 34n - 2n ** 31n - 1n;

const implied = (path: string): boolean => ["./links", "./dev", "./symlinks", "./x", "./sizes", `./${"n".repeat(255)}`].includes(path);

test("an image of no layers is an empty root directory", () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const summary = buildImage(image, []);
    assert.equal(summary.inodes, 1);
    assertClean(image);
  });
});

test("types, owners, modes, times, links, devices, attributes and ACLs mount as tar unpacks them", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const [image, unpacked] = [join(scratch, "image"), join(scratch, "unpacked")];
    const tar = buildTar(EVERYTHING);
    buildImage(image, [tar]);
    assertClean(image);
    mkdirSync(unpacked);
    execFileSync("tar", ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"], { cwd: unpacked, input: tar });
    const options = { withoutTimes: implied };
    withMount(image, "ro", (mounted) => {
      const listing = listTree(mounted, options);
      assert.match(listing.get("./x/large") ?? "", /security.capability=0x01.*trusted.t=0x74.*user.b=0x62.*user.large=0x61/s);
      assert.match(listing.get("./x/capability3") ?? "", /security.capability=0x01000003/);
      assert.match(listing.get("./x/acl") ?? "", /system.posix_acl_access=0x0200/);
      assert.match(listing.get("./c") ?? "", /links 3 first .\/c/);
      assertSameTree(listing, listTree(unpacked, options));
    });
  });
});

test("attributes that Linux does not let a node have are left out", { skip: skipMount }, () => {
  const xattrs = {
    "user.u": "u",
    "system.posix_acl_access": ACCESS_ACL,
    "system.posix_acl_default": ACCESS_ACL,
    "system.nfs4_acl": "n",
    btrfs: "b",
  };
  const expected: Readonly<Record<string, RegExp>> = {
    l: /-> x$/,
    n: /; system.posix_acl_access=0x[0-9a-f]*$/,
    f: /; system.posix_acl_access=0x[0-9a-f]*; user.u=0x75$/,
  };
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const mode = 0o664;
    buildImage(image, [
      buildTar([
        { path: "l", type: "symlink", link: "x", xattrs },
        { path: "n", type: "fifo", mode, xattrs },
        { path: "f", mode, xattrs },
      ]),
    ]);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      const listing = listTree(mounted);
      for (const [name, attributes] of Object.entries(expected)) assert.match(listing.get(`./${name}`) ?? "", attributes);
    });
  });
});

test("times that ext4 cannot hold are the nearest it can, as the kernel has them", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const times = {
      early: "-2147483649.5",
      first: "-2147483648",
      late: "15032385535.5",
      never: "99999999999.9",
      zero: "0",
      negative: "-0.5",
    };
    buildImage(image, [buildTar(Object.entries(times).map(([path, mtime]) => ({ path, mtime })))]);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      const at = (name: string): bigint => lstatSync(join(mounted, name), { bigint: true }).mtimeNs;
      assert.deepEqual([at("early"), at("first")], [-(2n ** 31n) * NS, -(2n ** 31n) * NS]);
      assert.deepEqual([at("late"), at("never")], [LAST_SECOND * NS, LAST_SECOND * NS]);
      assert.deepEqual([at("zero"), at("negative")], [0n, -NS / 2n]);
    });
  });
});

test("I9: the same layers give the same bytes, however they arrive", () => {
  withScratch((scratch) => {
    const layers = [buildTar(EVERYTHING), buildTar([{ path: "links/.wh.a" }, { path: "new", content: "n" }])];
    const build = (name: string, chunkBytes: number): Buffer => {
      buildImage(join(scratch, name), layers, { chunkBytes });
      return readFileSync(join(scratch, name));
    };
    const first = build("a", 1 << 20);
    for (const chunkBytes of [1 << 20, 333, 4096]) assert.ok(build("b", chunkBytes).equals(first), `${chunkBytes} bytes a chunk`);
  });
});

test("more inodes than one group can have get more groups", () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const files = Array.from({ length: 40_000 }, (_, index) => ({ path: `${index % 100}/${index}` }));
    const summary = buildImage(image, [buildTar(files)]);
    assert.equal(summary.inodes, 40_101);
    assertClean(image);
  });
});

test("a file with thousands of holes has an extent tree of two levels, and reads back", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const content = Buffer.alloc(2 * 4096 * 1500);
    for (let at = 0; at < content.length; at += 8192) content.fill(((at / 8192) % 255) + 1, at, at + 4096);
    const summary = buildImage(image, [buildTar([{ path: "holes", content }])]);
    assert.ok(summary.sizeBytes < content.length * 0.6, "zeros take no room");
    assertClean(image);
    withMount(image, "ro", (mounted) => assert.ok(readFileSync(join(mounted, "holes")).equals(content)));
  });
});

const readAt = (path: string, at: number, length: number): Buffer => {
  const fd = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(length);
    assert.equal(readSync(fd, bytes, 0, length, at), length);
    return bytes;
  } finally {
    closeSync(fd);
  }
};

test("a sparse file of 5 GiB takes the room of its data", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const [image, file] = [join(scratch, "image"), join(scratch, "sparse")];
    const fd = openSync(file, "w");
    for (const at of [0, 2 ** 31 - 5, 2 ** 32 + 4096 * 3]) writeSync(fd, Buffer.alloc(10, 0x61), 0, 10, at);
    closeSync(fd);
    truncateSync(file, 5 * 2 ** 30);
    const tar = execFileSync("tar", ["-S", "-C", scratch, "-cf", "-", "sparse"]);
    const summary = buildImage(image, [tar]);
    assert.ok(summary.sizeBytes < 2 ** 20);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      assert.equal(statSync(join(mounted, "sparse")).size, 5 * 2 ** 30);
      for (const at of [0, 2 ** 31 - 5000, 2 ** 32, 5 * 2 ** 30 - 70_000]) {
        assert.ok(readAt(join(mounted, "sparse"), at, 70_000).equals(readAt(file, at, 70_000)), `from ${at} on`);
      }
    });
  });
});

const refused: readonly (readonly [string, readonly TarSpec[], Ext4Error["code"]])[] = [
  ["a path that climbs", [{ path: "../evil" }], "PATH_UNSAFE"],
  ["a path that climbs in the middle", [{ path: "a/../../evil" }], "PATH_UNSAFE"],
  ["a hard link out of the image", [{ path: "l", type: "hardlink", link: "../../etc/passwd" }], "PATH_UNSAFE"],
  ["a hard link to nothing", [{ path: "l", type: "hardlink", link: "nothing" }], "LINK_INVALID"],
  [
    "a hard link to a directory",
    [
      { path: "d", type: "directory" },
      { path: "l", type: "hardlink", link: "d" },
    ],
    "LINK_INVALID",
  ],
  ["a file in place of the root", [{ path: "./", type: "symlink", link: "x" }], "PATH_UNSAFE"],
  ["a name of 256 bytes", [{ path: "n".repeat(256) }], "NAME_TOO_LONG"],
  ["an empty symlink", [{ path: "l", type: "symlink", link: "" }], "SYMLINK_INVALID"],
  [
    "a path through a loop of symlinks",
    [{ path: "a", type: "symlink", link: "b" }, { path: "b", type: "symlink", link: "a" }, { path: "a/f" }],
    "SYMLINK_LOOP",
  ],
  ["attributes that fit nowhere", [{ path: "f", xattrs: { "user.x": "x".repeat(5000) } }], "XATTR_TOO_LARGE"],
  ["a malformed ACL", [{ path: "f", xattrs: { "system.posix_acl_access": "x" } }], "XATTR_INVALID"],
  ["an overlay's redirect", [{ path: "d", type: "directory", xattrs: { "trusted.overlay.redirect": "/etc" } }], "OVERLAY_MARKER"],
  ["an overlay's metacopy", [{ path: "f", xattrs: { "trusted.overlay.metacopy": "" } }], "OVERLAY_MARKER"],
  ["a whiteout of the parent", [{ path: "d/.wh..." }], "PATH_UNSAFE"],
  ["a device number out of range", [{ path: "d", type: "block", device: [4096, 1] }], "DEVICE_INVALID"],
];

for (const [what, specs, code] of refused) {
  test(`${what} is refused`, () => {
    withScratch((scratch) => {
      assert.throws(
        () => buildImage(join(scratch, "image"), [buildTar(specs)]),
        (error) => error instanceof Ext4Error && error.code === code,
        code,
      );
    });
  });
}

test("what does not fit names the entry", () => {
  withScratch((scratch) => {
    const build = (specs: readonly TarSpec[]) => () => buildImage(join(scratch, "image"), [buildTar(specs)]);
    assert.throws(build([{ path: "d/f", xattrs: { "user.x": "x".repeat(5000) } }]), { code: "XATTR_TOO_LARGE", message: /d\/f/ });
    const links = Array.from({ length: 65_000 }, (_, index): TarSpec => ({ path: `l${index}`, type: "hardlink", link: "d/f" }));
    assert.throws(build([{ path: "d/f" }, ...links]), { code: "TOO_MANY_LINKS", message: /65000/ });
    build([{ path: "d/f" }, ...links.slice(1)])();
    assertClean(join(scratch, "image"));
  });
});

test("absolute paths lead below the root, and symlinks of the image cannot lead out of it", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [
      buildTar([
        { path: "out", type: "symlink", link: "../../../../tmp" },
        { path: "out/x", content: "inside" },
        { path: "//abs/./f", content: "f" },
      ]),
    ]);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      assert.equal(readFileSync(join(mounted, "tmp/x"), "utf8"), "inside");
      assert.equal(readFileSync(join(mounted, "abs/f"), "utf8"), "f");
    });
  });
});

test("directories that nobody names count too, and none is deeper than programs can go", () => {
  withScratch((scratch) => {
    const deep = "d/".repeat(1500);
    const build = (specs: readonly TarSpec[], limits: object) => () => buildImage(join(scratch, "image"), [buildTar(specs)], { limits });
    assert.throws(build([{ path: `${deep}f` }], { maxEntries: 1000 }), { name: "Ext4Error", code: "TOO_MANY_ENTRIES" });
    const deeper = [{ path: `${deep}f` }, { path: "s", type: "symlink" as const, link: deep }, { path: `s/${deep}f` }];
    assert.throws(build(deeper, {}), { name: "Ext4Error", code: "PATH_UNSAFE" });
  });
});

test("whatever the bytes of a layer, there is a clean image or a typed error", { timeout: 60_000 }, () => {
  const seed = buildTar(EVERYTHING.filter((spec) => !spec.path.startsWith("sizes")));
  const headers = Array.from({ length: seed.length / 512 }, (_, index) => index * 512).filter(
    (at) => seed.toString("latin1", at + 257, at + 262) === "ustar",
  );
  const change = fc.record({
    header: fc.constantFrom(...headers),
    at: fc.nat({ max: 511 }),
    byte: fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(0x2e, 0x2f, 0x30, 0x31, 0x35)),
  });
  let clean = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const tar = Buffer.from(seed);
      for (const { header, at, byte } of changes) {
        tar[header + at] = byte;
        sealHeader(tar.subarray(header, header + 512));
      }
      withScratch((scratch) => {
        try {
          buildImage(join(scratch, "image"), [tar]);
        } catch (error) {
          assert.ok(error instanceof Ext4Error || error instanceof TarError, String(error));
          return;
        }
        clean += 1;
        assertClean(join(scratch, "image"));
      });
    }),
    { numRuns: 150 },
  );
  assert.ok(clean > 30, `${clean} of 150 were clean`);
});

test("an image over the limit is refused, in bytes and in entries", () => {
  withScratch((scratch) => {
    const layer = buildTar(Array.from({ length: 20 }, (_, index) => ({ path: `f${index}`, content: Buffer.alloc(100_000, index + 1) })));
    const build = (limits: object) => () => buildImage(join(scratch, "image"), [layer], { limits });
    assert.throws(build({ maxImageBytes: 10 ** 6 }), { name: "Ext4Error", code: "TOO_LARGE" });
    assert.throws(build({ maxEntries: 19 }), { name: "Ext4Error", code: "TOO_MANY_ENTRIES" });
    assert.throws(build({ maxMetadataBytes: 1000 }), { name: "Ext4Error", code: "TOO_MANY_ENTRIES" });
    build({ maxImageBytes: 3 * 10 ** 6, maxEntries: 20 })();
  });
});
