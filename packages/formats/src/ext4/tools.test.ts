/** What e2fsprogs says of an image, and does with it. The features are those of docs/ext4.md. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import { IDENTITY, assertClean, assertSameTree, buildImage, listTree, skipMount, withMount, withScratch } from "./image.fixture.ts";

const PAGE = new URL("../../../../docs/ext4.md", import.meta.url);
const page = readFileSync(PAGE, "utf8");
/** The first column of the page's table. */
const FEATURES = [...page.slice(0, page.indexOf("## Layout")).matchAll(/^\| `([a-z0-9_]+)` \|/gm)]
  .map(([, feature = ""]) => feature)
  .sort();

const BIG = 5000;
const HOLES = Buffer.alloc(60 * 8192);
for (let at = 0; at < HOLES.length; at += 8192) HOLES.fill(7, at, at + 4096);

const LAYER: readonly TarSpec[] = [
  { path: "etc", type: "directory", mode: 0o755, mtime: "1600000000" },
  { path: "etc/hostname", content: "kiln\n", uid: 70_000, gid: 5, mtime: "9000000000.5" },
  { path: "etc/link", type: "symlink", link: "hostname" },
  { path: "etc/long", type: "symlink", link: "t".repeat(300) },
  { path: "etc/hard", type: "hardlink", link: "etc/hostname" },
  { path: "etc/labelled", content: "x", xattrs: { "user.small": "s", "trusted.large": "l".repeat(3000) } },
  { path: "etc/holes", content: HOLES },
  { path: "etc/data", content: Buffer.alloc(3_000_000, 5) },
  ...Array.from({ length: BIG }, (_, index): TarSpec => ({ path: `big/entry-${index}` })),
];

/** Runs one of e2fsprogs; what it prints. */
const tool = (command: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "latin1", maxBuffer: 1 << 28 });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout + stderr;
};

const field = (text: string, name: string): string => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(text)?.[1] ?? "";

const release: (() => void)[] = [];
let image = "";
let scratch = "";

before(() => {
  scratch = execFileSync("mktemp", ["-d"], { encoding: "utf8" }).trim();
  release.push(() => execFileSync("rm", ["-r", scratch]));
  image = join(scratch, "image");
  buildImage(image, [buildTar(LAYER)]);
});
after(() => {
  for (const one of release) one();
});

test("tune2fs and dumpe2fs tell the features, sizes and identity that the page names, and no journal", () => {
  const text = tool("tune2fs", "-l", image);
  assert.equal(FEATURES.length, 12);
  assert.deepEqual(field(text, "Filesystem features").split(" ").sort(), FEATURES);
  const uuid = Buffer.from(IDENTITY.uuid).toString("hex");
  assert.equal(field(text, "Filesystem UUID").replaceAll("-", ""), uuid);
  assert.equal(field(text, "Directory Hash Seed").replaceAll("-", ""), Buffer.from(IDENTITY.hashSeed).toString("hex"));
  assert.equal(field(text, "Default directory hash"), "half_md4");
  assert.equal(field(text, "Filesystem state"), "clean");
  assert.equal(field(text, "Block size"), "4096");
  assert.equal(field(text, "Inode size"), "256");
  assert.equal(field(text, "Checksum type"), "crc32c");
  assert.equal(field(text, "Reserved block count"), "0");
  assert.equal(Number(field(text, "Block count")) * 4096, statSync(image).size);
  assert.equal(Number(field(text, "Inode count")) - Number(field(text, "Free inodes")), 10 + 8 + BIG);
  const groups = tool("dumpe2fs", image);
  assert.match(groups, /Group 0: \(Blocks 0-/);
  assert.doesNotMatch(`${text}${groups}`, /journal|backup superblock/i);
  assert.doesNotMatch(groups, /invalid|corrupt|mismatch/i);
});

test("each test that the page names is there", () => {
  const named = [...page.matchAll(/^\| .* \| \[[^\]]+\]\(([^)]+)\): (.*) \|$/gm)];
  assert.ok(named.length > 20);
  for (const [, path = "", name = ""] of named) assert.ok(readFileSync(new URL(path, PAGE), "utf8").includes(name), `${path}: ${name}`);
});

test("debugfs lists, tells, dumps and walks the index", () => {
  const debugfs = (request: string): string => tool("debugfs", "-R", request, image);
  assert.match(debugfs("ls -l /etc"), /100644 \(1\) +70000 +5 +5 .* hostname/);
  const stat = debugfs("stat /etc/hostname");
  assert.match(stat, /Links: 2/);
  assert.match(stat, /mtime: 0x18711a00:77359402/);
  assert.match(debugfs("stat /etc/link"), /Fast link dest: "hostname"/);
  assert.match(debugfs("stat /etc/labelled"), /user.small \(1\) = "s"[\s\S]*trusted.large \(3000\)/);
  assert.equal(debugfs("dump_extents /etc/holes").match(/^ *1\/ *1 /gm)?.length, 60);
  debugfs(`dump /etc/data ${join(scratch, "dumped")}`);
  assert.ok(readFileSync(join(scratch, "dumped")).equals(Buffer.alloc(3_000_000, 5)));
  assert.equal(tool("debugfs", "-R", "cat /etc/hostname", image).replace(/^debugfs .*\n/m, ""), "kiln\n");
  const htree = debugfs("htree_dump /big");
  assert.match(htree, /Hash Version: 1/);
  assert.equal(htree.match(/entry-\d+/g)?.length, BIG);
});

/** The same tree as in the image: what a tool did to the file system did nothing to its files. */
const assertSameFiles = (changed: string): void =>
  withMount(changed, "ro", (actual) => withMount(image, "ro", (expected) => assertSameTree(listTree(actual), listTree(expected))));

for (const [what, resize] of [
  ["shrinks it to the least", (copy: string) => tool("resize2fs", "-M", copy)],
  ["grows it into further groups", (copy: string) => (truncateSync(copy, 700 * 2 ** 20), tool("resize2fs", copy))],
  [
    "grows it past what its descriptors' first block can tell, and shrinks it again",
    (copy: string) => (truncateSync(copy, 9 * 2 ** 30), tool("resize2fs", copy), tool("resize2fs", "-M", copy)),
  ],
] as const)
  test(`resize2fs ${what}, and every file is as it was`, { skip: skipMount }, () => {
    const copy = join(scratch, "copy");
    copyFileSync(image, copy);
    const before = statSync(copy).size;
    resize(copy);
    assertClean(copy);
    assert.notEqual(Number(field(tool("tune2fs", "-l", copy), "Block count")) * 4096, before);
    assertSameFiles(copy);
  });

test("a journal can be added, and a writer's mount leaves it clean", { skip: skipMount }, () => {
  const copy = join(scratch, "journalled");
  copyFileSync(image, copy);
  truncateSync(copy, 64 * 2 ** 20);
  tool("resize2fs", copy);
  tool("tune2fs", "-O", "has_journal", copy);
  withMount(copy, "rw", (root) => execFileSync("sh", ["-c", 'echo more > "$1/more"; rm -r "$1/big"', "sh", root]));
  assertClean(copy);
});

test("e2fsck finds what is damaged: checksums cover the superblock, groups, bitmaps, inodes, directories and indexes", () => {
  const clean = readFileSync(image);
  const inodeTable = Number(/Inode table at (\d+)/.exec(tool("dumpe2fs", image))?.[1]);
  const blockBitmap = Number(/Block bitmap at (\d+)/.exec(tool("dumpe2fs", image))?.[1]);
  const blockOf = (path: string): number =>
    Number(
      /\(\d+\):(\d+)|\(\d+-\d+\):(\d+)/
        .exec(tool("debugfs", "-R", `stat ${path}`, image))
        ?.slice(1)
        .find((one) => one !== undefined),
    );
  const places = {
    superblock: 1024 + 0x50,
    descriptors: 4096 + 0x30,
    "block bitmap": blockBitmap * 4096 + 2,
    inodes: inodeTable * 4096 + 256 + 0x70,
    directory: blockOf("/etc") * 4096 + 4000,
    index: blockOf("/big") * 4096 + 36,
  };
  withScratch((directory) => {
    for (const [what, at] of Object.entries(places)) {
      const damaged = join(directory, "damaged");
      const bytes = Buffer.from(clean);
      bytes[at] = (bytes[at] ?? 0) ^ 0x40;
      execFileSync("dd", [`of=${damaged}`, "bs=1M", "status=none"], { input: bytes });
      assert.notEqual(spawnSync("e2fsck", ["-fn", damaged]).status, 0, what);
    }
  });
});
