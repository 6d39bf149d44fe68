import assert from "node:assert/strict";
import { lstatSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import {
  assertClean,
  assertSameTree,
  buildImage,
  listTree,
  skipMount,
  skipUmoci,
  umociUnpack,
  withMount,
  withScratch,
} from "./image.fixture.ts";

const directory = (path: string, more: Partial<TarSpec> = {}): TarSpec => ({ path, type: "directory", ...more });
const file = (path: string, content: string, more: Partial<TarSpec> = {}): TarSpec => ({ path, content, ...more });
const link = (path: string, target: string): TarSpec => ({ path, type: "hardlink", link: target });
const symlink = (path: string, target: string): TarSpec => ({ path, type: "symlink", link: target });
const whiteout = (path: string): TarSpec => ({ path: path.replace(/([^/]*)$/, ".wh.$1") });
const opaque = (path: string): TarSpec => ({ path: `${path}/.wh..wh..opq` });

interface Merged {
  readonly names: readonly string[];
  readonly again: readonly number[];
  readonly freeBlocks: number;
}

/** Builds and mounts layers, bottom to top; `look` sees the mounted root. */
const merge = (layers: readonly (readonly TarSpec[])[], look: (root: string) => void = () => undefined): Merged =>
  withScratch((scratch) => {
    const image = join(scratch, "image");
    const summary = buildImage(image, layers.map(buildTar));
    assertClean(image);
    return withMount(image, "ro", (mounted) => {
      look(mounted);
      return {
        names: [...listTree(mounted).keys()].slice(1).map((path) => path.slice(2)),
        again: summary.again,
        freeBlocks: summary.freeBlocks,
      };
    });
  });

const content = (root: string, path: string): string => readFileSync(join(root, path), "utf8");

test("a whiteout hides what lower layers have, whatever it is, and nothing of its own layer", { skip: skipMount }, () => {
  const lower = [directory("d"), file("d/a", "1"), file("d/b", "1"), directory("tree"), file("tree/x/y", "1"), file("same", "lower")];
  const upper = [file("same", "upper"), whiteout("same"), whiteout("d/a"), whiteout("tree"), whiteout("never-was"), file("tree2", "2")];
  const { names } = merge([lower, upper], (root) => assert.equal(content(root, "same"), "upper"));
  assert.deepEqual(names, ["d", "d/b", "same", "tree2"]);
});

test("an opaque directory keeps only its own layer's entries, wherever the marker stands", { skip: skipMount }, () => {
  const lower = [file("d/old", "1"), file("d/sub/old", "1"), file("e/old", "1")];
  const upper = [directory("d"), file("d/sub/new", "2"), opaque("d"), opaque("e"), file("e/new", "2")];
  assert.deepEqual(merge([lower, upper]).names, ["d", "d/sub", "d/sub/new", "e", "e/new"]);
});

test("a file replaces a directory, and a directory a file or a symlink", { skip: skipMount }, () => {
  const lower = [file("d/x", "1"), file("f", "1"), symlink("s", "d")];
  const upper = [file("d", "2"), directory("f"), file("f/y", "2"), directory("s"), file("s/z", "2")];
  assert.deepEqual(merge([lower, upper]).names, ["d", "f", "f/y", "s", "s/z"]);
});

test(
  "the metadata of a directory is the topmost layer's that names it; one that none names is root's and 0755",
  { skip: skipMount },
  () => {
    const layers = [
      [directory("d", { mode: 0o700, uid: 5, mtime: "100" }), file("d/a", "1")],
      [directory("d", { mode: 0o711, uid: 6, mtime: "200" })],
      [file("d/b", "2"), file("i/j", "3")],
    ];
    merge(layers, (root) => {
      const [named, implied] = [lstatSync(join(root, "d")), lstatSync(join(root, "i"))];
      assert.deepEqual([named.mode & 0o7777, named.uid, named.mtimeMs], [0o711, 6, 200_000]);
      assert.deepEqual([implied.mode & 0o7777, implied.uid, implied.mtimeMs], [0o755, 0, 315_532_800_000]);
    });
  },
);

test("a path through a lower layer's symlink lands where the symlink leads", { skip: skipMount }, () => {
  const lower = [directory("usr/lib"), file("usr/lib/a", "1"), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib")];
  const upper = [file("lib/a", "2"), file("abs/b", "2"), whiteout("lib/never")];
  const { names } = merge([lower, upper], (root) => {
    assert.equal(content(root, "usr/lib/a"), "2");
    assert.equal(readlinkSync(join(root, "lib")), "usr/lib");
  });
  assert.deepEqual(names, ["abs", "lib", "usr", "usr/lib", "usr/lib/a", "usr/lib/b"]);
});

test("a hard link to a file of a lower layer shares its inode", { skip: skipMount }, () => {
  merge([[file("a", "1")], [link("b", "a")], [link("c/d", "b")]], (root) => {
    const inodes = ["a", "b", "c/d"].map((path) => lstatSync(join(root, path)).ino);
    assert.equal(new Set(inodes).size, 1);
    assert.equal(lstatSync(join(root, "a")).nlink, 3);
  });
});

test("a hard link keeps a lower file that a layer above hides, without reading a layer twice", { skip: skipMount }, () => {
  const { names, again } = merge([[file("a", "kept")], [link("b", "a")], [whiteout("a")]], (root) =>
    assert.equal(content(root, "b"), "kept"),
  );
  assert.deepEqual([names, again], [["b"], []]);
  merge([[file("a", "old")], [link("b", "a")], [file("a", "new")]], (root) => {
    assert.deepEqual([content(root, "a"), content(root, "b")], ["new", "old"]);
    assert.equal(lstatSync(join(root, "b")).nlink, 1);
  });
});

test("a file whose first name is replaced but not its second is read again", { skip: skipMount }, () => {
  const { again } = merge([[file("a", "old"), link("b", "a"), file("other", "x")], [file("a", "new")]], (root) => {
    assert.deepEqual([content(root, "a"), content(root, "b"), content(root, "other")], ["new", "old", "x"]);
  });
  assert.deepEqual(again, [0]);
});

test("a hard link to a symlink and one to a device are links to them", { skip: skipMount }, () => {
  merge(
    [
      [symlink("s", "x"), { path: "n", type: "character", device: [1, 3] }],
      [link("t", "s"), link("m", "n")],
    ],
    (root) => {
      assert.equal(readlinkSync(join(root, "t")), "x");
      assert.ok(lstatSync(join(root, "m")).isCharacterDevice());
      assert.equal(lstatSync(join(root, "t")).nlink, 2);
    },
  );
});

test("what an upper layer hides is not written", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const big = { content: Buffer.alloc(2 ** 21, 1) };
    const lower = [
      { path: "replaced", ...big },
      { path: "gone", ...big },
      { path: "d/x", ...big },
      { path: "e/y", ...big },
    ];
    const upper = [file("replaced", "2"), whiteout("gone"), whiteout("d"), directory("e"), opaque("e")];
    const summary = buildImage(join(scratch, "image"), [lower, upper].map(buildTar));
    assert.ok(summary.sizeBytes < 2 ** 20, `${summary.sizeBytes} bytes`);
  });
});

test("a path twice in one layer is the last one, and the room of the first is free", { skip: skipMount }, () => {
  const { freeBlocks } = merge([[{ path: "f", content: Buffer.alloc(40_960, 1) }, file("f", "last")]], (root) =>
    assert.equal(content(root, "f"), "last"),
  );
  assert.ok(freeBlocks >= 10);
});

test("a layer cannot speak overlay: markers act or vanish, and a 0:0 device is a whiteout", { skip: skipMount }, () => {
  const lower = [file("d/old", "1"), file("w", "1"), file("f", "1")];
  const upper: TarSpec[] = [
    directory("d", { xattrs: { "trusted.overlay.opaque": "y", "trusted.overlay.origin": "x", "user.kept": "k" } }),
    { path: "w", type: "character", device: [0, 0] },
    file("f", "2", { xattrs: { "trusted.overlay.impure": "y" } }),
  ];
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [lower, upper].map(buildTar));
    withMount(image, "ro", (root) => {
      assert.deepEqual(readdirSync(root).sort(), ["d", "f"]);
      const listing = [...listTree(root).values()].join("\n");
      assert.doesNotMatch(listing, /overlay/);
      assert.match(listing, /user.kept=0x6b/);
    });
  });
});

test("an overlay's marked whiteouts act where its opaque marker says that they are there", { skip: skipMount }, () => {
  const lower = [file("d/kept", "1"), file("d/gone", "1")];
  const upper: TarSpec[] = [
    directory("d", { xattrs: { "trusted.overlay.opaque": "x" } }),
    file("d/gone", "", { xattrs: { "trusted.overlay.whiteout": "y" } }),
  ];
  assert.deepEqual(merge([lower, upper]).names, ["d", "d/kept"]);
});

test("a directory that a whiteout takes away and the same layer makes again is new, in either order", { skip: skipMount }, () => {
  const lower = [directory("d", { uid: 5, mode: 0o700, xattrs: { "user.old": "x" } }), file("d/sub/old", "1")];
  const again = [directory("d", { uid: 6 }), file("d/sub/new", "2")];
  for (const upper of [
    [whiteout("d"), ...again],
    [...again, whiteout("d")],
  ]) {
    const { names } = merge([lower, upper], (root) => {
      assert.deepEqual([lstatSync(join(root, "d")).uid, lstatSync(join(root, "d")).mode & 0o777], [6, 0o755]);
      assert.doesNotMatch(listTree(root).get("./d") ?? "", /user.old/);
    });
    assert.deepEqual(names, ["d", "d/sub", "d/sub/new"]);
  }
});

test("a hard link keeps a lower file through its replacement by a directory, a symlink and a whiteout", { skip: skipMount }, () => {
  const lower = [file("a", "a"), file("b", "b"), file("c/d", "c")];
  const linked = [link("x/a", "a"), link("x/b", "b"), link("x/c", "c/d")];
  const upper = [file("a/now-a-directory", "2"), symlink("b", "x/b"), whiteout("c")];
  const { names } = merge([lower, linked, upper], (root) => {
    assert.deepEqual([content(root, "x/a"), content(root, "b"), content(root, "x/c")], ["a", "b", "c"]);
    for (const name of ["a", "b", "c"]) assert.equal(lstatSync(join(root, "x", name)).nlink, 1);
  });
  assert.deepEqual(names, ["a", "a/now-a-directory", "b", "x", "x/a", "x/b", "x/c"]);
});

test("aufs's bookkeeping is left out", { skip: skipMount }, () => {
  assert.deepEqual(merge([[directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), file("f", "1")]]).names, [
    "f",
  ]);
});

const NAMES = ["a", "b", "c"] as const;
const pathOf = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const owner = fc.record({
  uid: fc.nat({ max: 70_000 }),
  mode: fc.constantFrom(0o600, 0o755, 0o4711),
  mtime: fc.constantFrom("1600000000", "1.5"),
});
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({ path: pathOf, content: fc.string({ maxLength: 9 }).map((text) => text.repeat(700)), more: owner })
      .map(({ path, content, more }) => file(path, content, more)),
  },
  { weight: 3, arbitrary: fc.record({ path: pathOf, more: owner }).map(({ path, more }) => directory(path, more)) },
  { weight: 1, arbitrary: fc.record({ path: pathOf, target: pathOf }).map(({ path, target }) => symlink(path, target)) },
  { weight: 2, arbitrary: fc.record({ path: pathOf, target: pathOf }).map(({ path, target }) => link(path, target)) },
  { weight: 2, arbitrary: pathOf.map(whiteout) },
  { weight: 1, arbitrary: pathOf.map(opaque) },
);

/** Every parent is named before what is in it, as docker, buildkit and umoci write layers; others leave parents out. */
const withParents = (operations: readonly TarSpec[]): TarSpec[] => {
  const named = new Set<string>();
  return operations.flatMap((one) => {
    const parts = one.path.split("/").slice(0, -1);
    const parents = parts.map((_, index) => parts.slice(0, index + 1).join("/")).filter((path) => !named.has(path));
    for (const path of parents) named.add(path);
    named.add(one.path);
    return [...parents.map((path) => directory(path, { mtime: "7" })), one];
  });
};

test("any layers that umoci unpacks merge as it unpacks them", { skip: skipUmoci, timeout: 60_000 }, () => {
  let compared = 0;
  const layer = fc
    .tuple(fc.array(operation, { maxLength: 8 }), fc.boolean())
    .map(([operations, named]) => (named ? withParents(operations) : operations));
  const layers = fc.array(layer, { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(layers, (specs) => {
      withScratch((scratch) => {
        const tars = [[directory("./", { mtime: "5" })], ...specs].map((layer) => buildTar(layer));
        const unpacked = umociUnpack(scratch, tars);
        fc.pre(unpacked !== null);
        const image = join(scratch, "image");
        buildImage(image, tars);
        assertClean(image);
        const options = { withoutTimes: (path: string) => lstatSync(join(unpacked, path)).isDirectory() };
        withMount(image, "ro", (mounted) => assertSameTree(listTree(mounted, options), listTree(unpacked, options)));
        compared += 1;
      });
    }),
    { numRuns: 60, maxSkipsPerRun: 30 },
  );
  assert.ok(compared > 20);
});
