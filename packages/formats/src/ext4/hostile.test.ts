import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { encodeEntry, paddingAfter } from "../tar/index.ts";
import { buildTar, type TarSpec } from "../tar/tar-writer.fixture.ts";
import { Ext4Error, LayeredImage, type Ext4ErrorCode } from "./index.ts";
import { Ext4Reader } from "./read/index.ts";

const IDENTITY = { uuid: Buffer.alloc(16, 0x42), hashSeed: Buffer.alloc(16, 0x17), timeSeconds: 315_532_800, label: "" };
const LIMITS = { maxImageBytes: 2 ** 28, maxEntries: 100_000, maxMetadataBytes: 2 ** 26 };

type Layers = readonly (readonly TarSpec[])[];

const build = (layers: Layers): Buffer => {
  const writes: { offset: number; bytes: Uint8Array }[] = [];
  const sink = { write: (offset: number, bytes: Uint8Array) => void writes.push({ offset, bytes: Buffer.from(bytes) }) };
  const image = new LayeredImage({ identity: IDENTITY, limits: LIMITS, layerCount: layers.length }, sink);
  const feed = (input: ReturnType<LayeredImage["readLayer"]>, specs: readonly TarSpec[]): void => {
    input.write(buildTar(specs));
    input.end();
  };
  for (const [number, specs] of [...layers.entries()].reverse()) feed(image.readLayer(number), specs);
  for (const number of image.layersToReadAgain()) feed(image.readLayerAgain(number), layers[number] ?? []);
  const bytes = Buffer.alloc(image.finish().sizeBytes);
  for (const write of writes) bytes.set(write.bytes, write.offset);
  return bytes;
};

/** Every path of the image: a symlink's target, a file's content, "/" for a directory. */
const treeOf = (layers: Layers): Record<string, string> => {
  const image = build(layers);
  const reader = Ext4Reader.open({ sizeBytes: image.length, read: (offset, length) => image.subarray(offset, offset + length) });
  const content = (inode: Parameters<typeof reader.content>[0]): string =>
    [...reader.content(inode)].map(({ bytes }) => Buffer.from(bytes).toString("latin1")).join("");
  const entries = [...reader.walk()].map(({ path, inode }): [string, string] => {
    if (inode.type === "symlink") return [path, `-> ${Buffer.from(reader.readLink(inode)).toString("latin1")}`];
    return [path, inode.type === "file" ? content(inode) : "/"];
  });
  return Object.fromEntries(entries.filter(([path]) => path !== "" && path !== "lost+found"));
};

const file = (path: string, content: string): TarSpec => ({ path, content });
const directory = (path: string): TarSpec => ({ path, type: "directory" });
const symlink = (path: string, link: string): TarSpec => ({ path, type: "symlink", link });
const hardlink = (path: string, link: string): TarSpec => ({ path, type: "hardlink", link });
const whiteout = (path: string): TarSpec => ({ path: path.replace(/([^/]*)$/, ".wh.$1") });

const refused = (layers: Layers, code: Ext4ErrorCode): void => {
  assert.throws(
    () => build(layers),
    (error) => error instanceof Ext4Error && error.code === code,
  );
};

suite("a symlink that a lower layer has put on an upper layer's way", () => {
  const lower = [symlink("a", "/etc"), directory("etc"), file("etc/passwd", "image's")];

  test("leads inside the image, absolute or with more .. than there are directories", () => {
    assert.deepEqual(treeOf([lower, [file("a/passwd", "upper's")]]), { a: "-> /etc", etc: "/", "etc/passwd": "upper's" });
    assert.deepEqual(treeOf([[symlink("out", "../../../../tmp")], [file("out/x", "x")]]), {
      out: "-> ../../../../tmp",
      tmp: "/",
      "tmp/x": "x",
    });
  });

  test("leads a whiteout and a hard link the same way", () => {
    assert.deepEqual(treeOf([lower, [whiteout("a/passwd")]]), { a: "-> /etc", etc: "/" });
    assert.deepEqual(treeOf([lower, [{ path: "a/.wh..wh..opq" }]]), { a: "-> /etc", etc: "/" });
    assert.equal(treeOf([lower, [hardlink("copy", "a/passwd")]])["copy"], "image's");
  });

  test("is gone where a layer between puts a directory in its place", () => {
    const tree = treeOf([lower, [directory("a")], [file("a/passwd", "upper's")]]);
    assert.deepEqual(tree, { a: "/", "a/passwd": "upper's", etc: "/", "etc/passwd": "image's" });
  });

  test("is itself what its whiteout takes away", () => {
    assert.deepEqual(treeOf([lower, [whiteout("a")]]), { etc: "/", "etc/passwd": "image's" });
  });

  test("may be put there by the upper layer itself, before or behind", () => {
    assert.deepEqual(treeOf([[symlink("a", "b"), file("a/f", "x")]]), { a: "-> b", b: "/", "b/f": "x" });
    assert.deepEqual(treeOf([[file("a/f", "x"), symlink("a", "b")]]), { a: "-> b" });
  });
});

test("a hard link to itself, in whatever spelling, has no target, as in umoci", () => {
  refused([[file("a", "x"), hardlink("a", "a")]], "LINK_INVALID");
  refused([[file("a", "x")], [hardlink("./a", "//a")]], "LINK_INVALID");
  refused([[directory("d"), file("d/a", "x"), symlink("s", "d"), hardlink("d/a", "s/a")]], "LINK_INVALID");
  refused([[file("a", "x"), hardlink("a/b", "a")]], "LINK_INVALID");
  assert.deepEqual(treeOf([[file("a", "x"), hardlink("b", "a"), hardlink("b", "a")]]), { a: "x", b: "x" });
});

test("no directory is deeper than a path can lead, named or not", () => {
  const deep = "d/".repeat(2000);
  const below = Array.from({ length: 48 }, (_, index) => directory(`s/${"e/".repeat(index + 1)}`));
  const way = [directory(deep), symlink("s", deep)];
  assert.ok(build([[...way, ...below]]).length > 2048 * 4096, "each directory has its block");
  refused([[...way, ...below, directory(`s/${"e/".repeat(49)}`)]], "PATH_UNSAFE");
  refused([[...way, ...below, file(`s/${"e/".repeat(48)}f`, "x")]], "PATH_UNSAFE");
});

test("markers that come again and again cost no more than the first", () => {
  const files = Array.from({ length: 20_000 }, (_, index) => file(`d/f${index}`, ""));
  for (const marker of [{ path: "d/.wh..wh..opq" }, whiteout("d")]) {
    const began = process.cpuUsage();
    build([[...files, ...files.map(() => marker)]]);
    const { user } = process.cpuUsage(began);
    assert.ok(user < 5_000_000, `${user} us; it were 20 s if each looked at all files`);
  }
});

test("a file of as many pieces as a map can name may be replaced in its own layer, and its room is free", () => {
  const pieces = 200_000;
  const segments = Array.from({ length: pieces }, (_, index) => ({ offset: index * 8192, length: 1 }));
  const sparse = encodeEntry({
    ...{ type: "file", path: "f", linkPath: "", mode: 0o644, uid: 0, gid: 0, deviceMajor: 0, deviceMinor: 0 },
    ...{ modifiedAt: { seconds: 0, nanoseconds: 0 }, xattrs: new Map(), sizeBytes: pieces * 8192, segments },
  });
  const options = { identity: IDENTITY, limits: { ...LIMITS, maxImageBytes: 2 ** 32 }, layerCount: 1 };
  const image = new LayeredImage(options, { write: () => undefined });
  const input = image.readLayer(0);
  for (const part of [sparse, Buffer.alloc(pieces, 1), paddingAfter(pieces), buildTar([file("f", "last")])]) input.write(part);
  input.end();
  assert.ok(image.finish().freeBlocks >= pieces);
});
