import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { buildTar } from "../../tar/tar-writer.fixture.ts";
import type { TarSpec } from "../../tar/tar-writer.fixture.ts";
import { assertClean, assertSameTree, buildImage, listTree, skipMount, withMount, withScratch } from "../image.fixture.ts";
import { Ext4ReadError, overlayUpperToTar } from "./index.ts";
import { readTar, withImage } from "./reader.fixture.ts";

const MIB = 2 ** 20;
const LOWER: readonly TarSpec[] = [
  { path: "./", type: "directory", mode: 0o755 },
  ...["keep", "emptied", "deleted", "replaced", "opaque", "tofile", "links", "deep", "deep/er"].map((path) => ({
    path,
    type: "directory" as const,
  })),
  ...["keep/a", "keep/b", "emptied/a", "emptied/b", "deleted/a", "replaced/old", "opaque/old", "opaque/both", "tofile/x", "deep/er/x"].map(
    (path) => ({ path, content: `lower ${path}` }),
  ),
  { path: "links/one", content: "linked", xattrs: { "user.l": "l" } },
  { path: "links/two", type: "hardlink", link: "links/one" },
  { path: "symlink", type: "symlink", link: "keep/a" },
  { path: "todirectory", content: "a file" },
  {
    path: "capable",
    content: "x",
    mode: 0o755,
    xattrs: { "security.capability": Buffer.from("0100000200040000000000000000000000000000", "hex") },
  },
];

const run = (command: string, ...args: string[]): void => void execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"] });

/** What a guest may do to its root. */
const change = (root: string): void => {
  const at = (path: string): string => join(root, path);
  appendFileSync(at("keep/a"), " and upper");
  run("chmod", "700", at("keep/b"));
  for (const name of ["a", "b"]) unlinkSync(at(`emptied/${name}`));
  rmSync(at("deleted"), { recursive: true });
  rmSync(at("replaced"), { recursive: true });
  mkdirSync(at("replaced"));
  writeFileSync(at("replaced/new"), "new");
  rmSync(at("opaque"), { recursive: true });
  mkdirSync(at("opaque/inner"), { recursive: true });
  writeFileSync(at("opaque/both"), "upper");
  rmSync(at("tofile"), { recursive: true });
  writeFileSync(at("tofile"), "was a directory");
  unlinkSync(at("todirectory"));
  mkdirSync(at("todirectory"));
  writeFileSync(at("todirectory/x"), "was a file");
  linkSync(at("links/one"), at("links/three"));
  unlinkSync(at("links/two"));
  linkSync(at("keep/b"), at("deep/link to b"));
  unlinkSync(at("symlink"));
  symlinkSync("keep/b", at("symlink"));
  run("setfattr", "-n", "user.new", "-v", "y", at("capable"));
  run("setfattr", "-n", "user.overlay.opaque", "-v", "y", at("deep"));
  run("touch", "-d", "2001-02-03 04:05:06.789 UTC", at("deep/er"));
  run("mknod", at("device"), "c", "1", "3");
  run("python3", "-c", "import socket,sys,os; os.chdir(sys.argv[1]); socket.socket(socket.AF_UNIX).bind('socket')", root);
  writeFileSync(at("sparse"), "s");
  truncateSync(at("sparse"), 5 * MIB);
  mkdirSync(at("run"));
  writeFileSync(at("run/pid"), "1");
};

interface Overlay {
  readonly scratch: string;
  readonly lowerTar: Buffer;
  /** The ext4 image with the upper directory at changes/upper. */
  readonly disk: string;
}

/** Mounts an overlay as the guest's agent does (and with inode numbers that are one file's alone, for the comparison), changes it, and hands over what it shows and the disk it has written. */
const withOverlay = (
  use: (overlay: Overlay, shown: Map<string, string>) => void,
  changes: (root: string) => void = change,
  options = "",
): void => {
  withScratch((scratch) => {
    const lowerTar = buildTar(LOWER);
    const [lower, disk, merged] = [join(scratch, "lower"), join(scratch, "disk"), join(scratch, "merged")];
    buildImage(lower, [lowerTar]);
    writeFileSync(disk, "");
    truncateSync(disk, 64 * MIB);
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", disk);
    mkdirSync(merged);
    let shown = new Map<string, string>();
    withMount(lower, "ro", (lowerAt) =>
      withMount(disk, "rw", (diskAt) => {
        for (const directory of ["changes", "changes/upper", "changes/work"]) mkdirSync(join(diskAt, directory));
        const upper = join(diskAt, "changes");
        run(
          "mount",
          "-t",
          "overlay",
          "overlay",
          "-o",
          `lowerdir=${lowerAt},upperdir=${upper}/upper,workdir=${upper}/work,xino=on${options}`,
          merged,
        );
        try {
          changes(merged);
          shown = listTree(merged);
        } finally {
          run("umount", merged);
        }
      }),
    );
    use({ scratch, lowerTar, disk }, shown);
  });
};

const UPPER = ["changes", "upper"];

test("the upper directory of an overlay, applied as a layer, gives the tree that the overlay shows", { skip: skipMount }, () => {
  withOverlay(({ scratch, lowerTar, disk }, shown) => {
    const tar = withImage(disk, (reader) => Buffer.concat([...overlayUpperToTar(reader, { upper: UPPER })]));
    const image = join(scratch, "image");
    buildImage(image, [lowerTar, tar]);
    assertClean(image);
    const expected = new Map([...shown].filter(([path]) => path !== "./socket"));
    assert.equal(expected.size, shown.size - 1);
    assertSameTree(withMount(image, "ro", listTree), expected);
    assert.ok(expected.has("./todirectory/x") && !expected.has("./replaced/old") && !expected.has("./deleted"));
    assert.match(expected.get("./deep") ?? "", /user.overlay.opaque/, "without userxattr it is an attribute like any other");
  });
});

test(
  "the layer says deletions and opaque directories as the image spec has them, and nothing of the overlay's own",
  { skip: skipMount },
  () => {
    withOverlay(({ disk }) => {
      const pieces = (): Uint8Array[] =>
        withImage(disk, (reader) => [
          ...overlayUpperToTar(reader, { upper: UPPER, exclude: (path) => path === "run" || path === "keep/b" }),
        ]);
      const members = readTar(pieces());
      for (const path of [
        "emptied/.wh.a",
        "emptied/.wh.b",
        ".wh.deleted",
        "links/.wh.two",
        "replaced/.wh..wh..opq",
        "todirectory/.wh..wh..opq",
      ])
        assert.deepEqual([members.get(path)?.entry.type, members.get(path)?.entry.sizeBytes], ["file", 0], path);
      assert.ok(![...members.keys()].some((path) => path.startsWith("run") || path === "socket" || path === "keep/b"));
      assert.equal(members.get("deep/link to b")?.entry.type, "file", "its first name is left out");
      assert.ok((members.get("sparse")?.holeBytes ?? 0) > 4 * MIB);
      for (const [path, { entry }] of members) {
        assert.ok(![...entry.xattrs.keys()].some((name) => name.startsWith("trusted.overlay.")), path);
        assert.ok(entry.type !== "character" || entry.deviceMajor !== 0, path);
      }
      assert.ok(Buffer.concat(pieces()).equals(Buffer.concat(pieces())));
    });
  },
);

const codeOf = (use: () => unknown, pattern: RegExp): string => {
  try {
    use();
  } catch (error) {
    assert.ok(error instanceof Ext4ReadError, String(error));
    assert.match(error.message, pattern);
    return error.code;
  }
  return "none";
};

const readUpper = (disk: string, options: object = {}): void =>
  withImage(disk, (reader) => void [...overlayUpperToTar(reader, { upper: UPPER, ...options })]);

test(
  "a directory that the overlay finds elsewhere, and a file whose content lies elsewhere, are refused by their path",
  { skip: skipMount },
  () => {
    const rename = (root: string): void => renameSync(join(root, "deep"), join(root, "moved"));
    withOverlay(
      ({ disk }) =>
        assert.equal(
          codeOf(() => readUpper(disk), /"\/moved".*redirect/),
          "OVERLAY_MARKER",
        ),
      rename,
      ",redirect_dir=on",
    );
    const chmod = (root: string): void => run("chmod", "600", join(root, "keep/a"));
    withOverlay(
      ({ disk }) =>
        assert.equal(
          codeOf(() => readUpper(disk), /"\/keep\/a".*metacopy/),
          "OVERLAY_MARKER",
        ),
      chmod,
      ",metacopy=on",
    );
  },
);

test("names that a layer would misread are refused, and an upper directory that is not there", { skip: skipMount }, () => {
  const name = (root: string): void => writeFileSync(join(root, "keep/.wh.a"), "");
  withOverlay(
    ({ disk }) =>
      assert.equal(
        codeOf(() => readUpper(disk), /keep\/\.wh\.a/),
        "NOT_REPRESENTABLE",
      ),
    name,
  );
  withOverlay(({ disk }) => {
    assert.equal(
      codeOf(() => readUpper(disk, { upper: ["changes", "nothing"] }), /"\/changes\/nothing"/),
      "NOT_FOUND",
    );
    assert.equal(
      codeOf(() => readUpper(disk, { upper: ["changes", "upper", "tofile"] }), /a file, no directory/),
      "NOT_FOUND",
    );
  });
});
