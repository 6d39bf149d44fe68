/** The order of a layer's entries: where it means something, and where it does not. */
import assert from "node:assert/strict";
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../tar/tar-writer.fixture.ts";
import { Ext4Error } from "./index.ts";
import { assertClean, buildImage, listTree, skipMount, withMount, withScratch } from "./image.fixture.ts";

const directory = (path: string, more: Partial<TarSpec> = {}): TarSpec => ({ path, type: "directory", ...more });
const file = (path: string, content = "", more: Partial<TarSpec> = {}): TarSpec => ({ path, content, ...more });
const link = (path: string, target: string): TarSpec => ({ path, type: "hardlink", link: target });
const whiteout = (path: string): TarSpec => ({ path: path.replace(/([^/]*)$/, ".wh.$1") });
const opaque = (path: string): TarSpec => ({ path: `${path}/.wh..wh..opq` });
const device = (path: string): TarSpec => ({ path, type: "character", device: [0, 0] });

const build = (scratch: string, layers: readonly (readonly TarSpec[])[]): Buffer => {
  buildImage(join(scratch, "image"), layers.map(buildTar));
  return readFileSync(join(scratch, "image"));
};

/** Each path of the layers' image with its content; a directory's ends with a slash. */
const read = (layers: readonly (readonly TarSpec[])[]): Record<string, string> =>
  withScratch((scratch) => {
    build(scratch, layers);
    assertClean(join(scratch, "image"));
    return withMount(join(scratch, "image"), "ro", (root) =>
      Object.fromEntries(
        [...listTree(root).keys()].slice(1).map((path) => {
          const full = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, "latin1")]);
          const name = path.slice(2);
          return lstatSync(full).isDirectory() ? [`${name}/`, ""] : [name, readFileSync(full, "utf8")];
        }),
      ),
    );
  });

const path = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }).map((names) => names.join("/"));
const drawn = { uid: fc.nat({ max: 9 }), mtime: fc.constantFrom("1", "2.5") };
const entry = fc.oneof(
  { weight: 3, arbitrary: fc.record({ path, content: fc.constantFrom("", "x", "yy"), ...drawn }) },
  { weight: 2, arbitrary: fc.record({ path, type: fc.constant("directory" as const), mode: fc.constantFrom(0o700, 0o755), ...drawn }) },
  { weight: 1, arbitrary: fc.record({ path, type: fc.constant("fifo" as const), ...drawn }) },
);
const marker = fc.oneof(path.map(whiteout), path.map(opaque), path.map(device));

test("whiteouts and opaque markers act the same wherever in their layer they stand", () => {
  const layers = fc.tuple(fc.array(entry, { minLength: 1, maxLength: 10 }), fc.array(entry, { maxLength: 10 }));
  const markers = fc.array(fc.record({ marker, places: fc.tuple(fc.nat(), fc.nat()) }), { minLength: 1, maxLength: 4 });
  let differ = 0;
  fc.assert(
    fc.property(layers, markers, ([lower, upper], placed) => {
      const [one, other] = [0, 1].map((which) => {
        const layer: TarSpec[] = [...upper];
        for (const { marker: spec, places } of placed) layer.splice((places[which] ?? 0) % (layer.length + 1), 0, spec);
        return layer;
      });
      withScratch((scratch) => {
        const bytes = build(scratch, [lower, one ?? []]);
        assert.ok(bytes.equals(build(scratch, [lower, other ?? []])));
        if (!bytes.equals(build(scratch, [lower, upper]))) differ += 1;
      });
    }),
    { numRuns: 300 },
  );
  assert.ok(differ > 50, `the markers changed ${differ} of 300 images`);
});

test("what one layer says twice is what it says last", { skip: skipMount }, () => {
  assert.deepEqual(read([[file("f", "1"), file("f", "2"), file("f", "3")]]), { f: "3" });
  assert.deepEqual(read([[directory("d"), file("d/f", "1"), file("d", "2")]]), { d: "2" });
  assert.deepEqual(read([[file("d", "1"), directory("d"), file("d/f", "2")]]), { "d/": "", "d/f": "2" });
  assert.deepEqual(read([[file("d", "1"), file("d/f", "2")]]), { "d/": "", "d/f": "2" });
  assert.deepEqual(read([[directory("d"), file("d/f", "1"), directory("d", { mode: 0o700 })]]), { "d/": "", "d/f": "1" });
  assert.deepEqual(read([[file("d/f", "1"), file("d", "2"), directory("d")]]), { "d/": "" });
  assert.deepEqual(read([[{ path: "s", type: "symlink", link: "d" }, directory("s"), file("s/f", "1")]]), { "s/": "", "s/f": "1" });
});

test("a hard link leads to what is at its target when it comes, and keeps that", { skip: skipMount }, () => {
  assert.deepEqual(read([[file("a", "1"), link("b", "a"), file("a", "2")]]), { a: "2", b: "1" });
  assert.deepEqual(read([[file("a", "1"), file("a", "2"), link("b", "a")]]), { a: "2", b: "2" });
  assert.deepEqual(read([[file("a", "1")], [link("b", "a"), directory("a"), file("a/f", "2")]]), { "a/": "", "a/f": "2", b: "1" });
});

test(
  "a hard link comes before the whiteout of its source in the same layer; after it there is nothing to lead to",
  { skip: skipMount },
  () => {
    assert.deepEqual(read([[file("a", "1")], [link("b", "a"), whiteout("a")]]), { b: "1" });
    withScratch((scratch) => {
      for (const gone of [whiteout("a"), device("a")]) {
        const other = gone.path === "a" ? link("b", "./a") : link("b", "a");
        if (gone.path === "a")
          assert.deepEqual(
            read([
              [file("a", "1"), file("b", "1")],
              [gone, other],
            ]),
            {},
            "overlayfs gives one whiteout many names",
          );
        else
          assert.throws(
            () => build(scratch, [[file("a", "1")], [gone, other]]),
            (error) => error instanceof Ext4Error && error.code === "LINK_INVALID",
          );
      }
    });
  },
);

test("a hard link takes the place of what has its name before its target is looked for", () => {
  withScratch((scratch) => {
    for (const layer of [
      [file("a", "1"), link("a", "a")],
      [file("d/f", "1"), link("d", "d/f")],
    ])
      assert.throws(
        () => build(scratch, [layer]),
        (error) => error instanceof Ext4Error && error.code === "LINK_INVALID",
      );
  });
});

test("a hard link that takes away the symlink on its own way stands where that led", { skip: skipMount }, () => {
  const symlink: TarSpec = { path: "b/d", type: "symlink", link: "/." };
  assert.deepEqual(read([[file("a", "1")], [symlink, link("b/d/b", "a")]]), { a: "1", b: "1" });
});

test("a parent may come after what is in it, and is what its entry says", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const named = directory("d", { mode: 0o700, uid: 7, mtime: "5" });
    const early = build(scratch, [[named, file("d/e/f", "1")]]);
    assert.ok(early.equals(build(scratch, [[file("d/e/f", "1"), named]])));
  });
});

test("whiteouts of names with any bytes hide those names", { skip: skipMount }, () => {
  const names = ["\xff\xfe", "a\nb", " ", "-rf", "*", "\\", "..a", "...", ".wh", "wh.x", "\x01", "n".repeat(251)];
  const lower = [...names, "kept"].map((name) => file(`d/${name}`, "1"));
  assert.deepEqual(read([lower, names.map((name) => whiteout(`d/${name}`))]), { "d/": "", "d/kept": "1" });
});

test("a directory that is left because the whiteout's own layer has something in it is new, in either order", { skip: skipMount }, () => {
  const lower = [directory("d", { uid: 5, mode: 0o700, xattrs: { "user.old": "x" } }), directory("d/e", { uid: 6 }), file("d/e/old", "1")];
  for (const gone of [whiteout("d"), opaque("d")])
    withScratch((scratch) => {
      const first = build(scratch, [lower, [gone, file("d/e/new", "2")]]);
      assert.ok(build(scratch, [lower, [file("d/e/new", "2"), gone]]).equals(first));
      withMount(join(scratch, "image"), "ro", (root) => {
        assert.equal(lstatSync(join(root, "d/e")).uid, 0);
        assert.equal(lstatSync(join(root, "d")).uid, gone.path.endsWith(".opq") ? 5 : 0, "an opaque directory is the same directory");
      });
    });
});

const overlayName = fc.oneof(
  fc.constantFrom(
    "opaque",
    "redirect",
    "metacopy",
    "whiteout",
    "origin",
    "impure",
    "nlink",
    "upper",
    "uuid",
    "protattr",
    "overlay.opaque",
    "verity",
  ),
  fc.string({ maxLength: 12 }).filter((name) => !name.includes("\0")),
);

test(
  "whatever a layer says in overlayfs's words, the image has none of them: it acts, vanishes, or is refused",
  { skip: skipMount },
  () => {
    const xattrs = fc
      .array(fc.tuple(overlayName, fc.constantFrom("", "y", "x", "/etc", "\0\xfb")), { minLength: 1, maxLength: 3 })
      .map((all) =>
        Object.fromEntries(
          all.map(([name, value]) => [`trusted.overlay.${Buffer.from(name).toString("latin1")}`, Buffer.from(value, "latin1")]),
        ),
      );
    const type = fc.constantFrom("file", "directory", "symlink", "fifo", "character", "hardlink");
    const spec = fc
      .record({ path, type, xattrs, device: fc.constantFrom([0, 0] as const, [1, 3] as const) })
      .map(({ type: drawnType, ...more }): TarSpec => ({
        ...more,
        type: drawnType as "file",
        ...(drawnType === "symlink" ? { link: "x" } : {}),
        ...(drawnType === "hardlink" ? { link: "a" } : {}),
      }));
    const codes = new Set<string>();
    let built = 0;
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 4 }), (specs) => {
        withScratch((scratch) => {
          try {
            build(scratch, [[file("a", "1"), directory("b"), file("b/c")], specs]);
          } catch (error) {
            assert.ok(error instanceof Ext4Error, String(error));
            codes.add(error.code);
            return;
          }
          built += 1;
          withMount(join(scratch, "image"), "ro", (root) => {
            const listing = [...listTree(root).values()].join("\n");
            assert.doesNotMatch(listing, /trusted\.overlay/);
            assert.doesNotMatch(listing, /mode 2\d{4} .*; device 0;/);
          });
        });
      }),
      { numRuns: 120 },
    );
    assert.ok(built > 20, `${built} images`);
    assert.ok(codes.has("OVERLAY_MARKER"));
  },
);
