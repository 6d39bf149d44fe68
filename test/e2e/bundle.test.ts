import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { DfReport, ImageDetails } from "@kiln/protocol";
import { TestHome } from "./home.ts";

const run = promisify(execFile);

/** du counts a file of two names once, as df has to. */
const requireSameSum = async (home: TestHome): Promise<void> => {
  const measure = async (): Promise<readonly [number, number]> => {
    const { total } = await home.json<DfReport>("df");
    const { stdout } = await run("du", ["-s", "--block-size=1", home.path]);
    return [total.diskBytes, Number(stdout.split("\t")[0])];
  };
  // the daemon writes its log and its database meanwhile
  const found: (readonly [number, number])[] = [];
  for (let round = 0; round < 5; round += 1) {
    const [df, du] = await measure();
    if (df === du) return;
    found.push([df, du]);
  }
  assert.fail(`df and du differ: ${JSON.stringify(found)}`);
};

const contentOf = async (home: TestHome): Promise<string[]> =>
  (await Promise.all(["content/sha256", "rootfs", "staging"].map((name) => readdir(join(home.path, name)).catch(() => [])))).flat();

describe("a file system of a user's own", () => {
  let scratch: string;
  let file: string;
  let bundle: string;
  let home: TestHome;
  let other: TestHome;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "kiln-bundle-"));
    [home, other] = await Promise.all([TestHome.warm({ memory: "512m" }), TestHome.warm({ memory: "512m" })]);
    const tree = join(scratch, "tree");
    for (const name of ["bin", "proc", "sys", "dev", "tmp", "run", "etc"]) await mkdir(join(tree, name), { recursive: true });
    await copyFile("/bin/busybox", join(tree, "bin/busybox"));
    await symlink("busybox", join(tree, "bin/sh"));
    await writeFile(join(tree, "etc/motto"), "byte for byte\n");
    file = join(scratch, "root.ext4");
    bundle = join(scratch, "mine.kiln");
    await run("mke2fs", ["-q", "-t", "ext4", "-d", tree, file, "64M"]);
  });
  after(async () => {
    await Promise.all([home[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
    await rm(scratch, { recursive: true });
  });

  test("is an image once it is registered, and what boots is the file itself", async () => {
    await home.ok(
      "image",
      "register",
      file,
      "--name",
      "mine:1",
      "--cmd",
      '["/bin/sh", "-c", "busybox cat /etc/motto; echo $MODE"]',
      "-e",
      "MODE=fast",
    );
    assert.equal(await home.ok("run", "--rm", "mine:1"), "byte for byte\nfast\n");
    const { rootfsDigest, layerList } = await home
      .json<ImageDetails>("image", "inspect", "mine:1")
      .then((one) => [one].flat()[0] as ImageDetails);
    const { stdout } = await run("sha256sum", [file]);
    assert.equal(rootfsDigest, `sha256:${stdout.slice(0, 64)}`);
    assert.deepEqual(
      layerList.map(({ digest, diffId }) => [digest, diffId]),
      [[rootfsDigest, rootfsDigest]],
    );
    const [blob, rootfs] = await Promise.all([
      stat(join(home.path, "content/sha256", stdout.slice(0, 64))),
      ...(await readdir(join(home.path, "rootfs"))).map((name) => stat(join(home.path, "rootfs", name))),
    ]);
    assert.equal(blob.ino, rootfs?.ino, "the rootfs costs nothing");
    assert.ok(blob.blocks * 512 < 16 * 2 ** 20, "holes stay holes");
    await requireSameSum(home);
  });

  test("is exported to the same bytes each time, and runs in another home with the same rootfs", async () => {
    await home.ok("image", "export", "-o", bundle, "mine:1");
    const { outcome } = home.start(["image", "export", "mine:1", "-o", join(scratch, "again.kiln")]);
    assert.equal((await outcome).code, 0);
    await run("cmp", [bundle, join(scratch, "again.kiln")]);
    const unpacked = join(scratch, "unpacked");
    await mkdir(unpacked);
    await run("tar", ["--zstd", "-xf", bundle], { cwd: unpacked });
    await run("sha256sum", ["-c", "sha256"], { cwd: unpacked });
    await run("cmp", [file, join(unpacked, "rootfs.ext4")]);
    await other.ok("image", "import", bundle);
    const digests = await Promise.all(
      [home, other].map(async (one) => (await one.json<ImageDetails[]>("images")).map((image) => [image.digest, image.rootfsDigest])),
    );
    assert.deepEqual(digests[0], digests[1]);
    assert.equal(await other.ok("run", "--rm", "mine:1"), "byte for byte\nfast\n");
    await requireSameSum(other);
  });

  test("is exported and imported whatever its image was made of", async () => {
    await home.ok("pull", "deb:busybox-static");
    await home.ok("image", "export", "-o", join(scratch, "deb.kiln"), "deb:busybox-static");
    await other.ok("image", "import", join(scratch, "deb.kiln"), "--name", "box:1");
    const rootfs = async (one: TestHome, name: string): Promise<string | null | undefined> =>
      (await one.json<ImageDetails[]>("images")).find(({ reference }) => reference.endsWith(name))?.rootfsDigest;
    assert.equal(await rootfs(other, "box:1"), await rootfs(home, "busybox-static"));
  });

  test("I3 takes no name from another image, unless it is told to", async () => {
    const before = await other.json("images");
    for (const command of [
      ["image", "register", file, "--name", "box:1"],
      ["image", "import", bundle, "--name", "box:1"],
    ]) {
      const refused = await other.kiln([...command, "--json"]);
      assert.equal((JSON.parse(refused.stderr) as { code: string }).code, "IMAGE_NAME_CONFLICT");
      assert.equal(refused.code, 1);
    }
    assert.deepEqual(await other.json("images"), before);
    await other.ok("image", "import", bundle); // the same again
    await other.ok("image", "import", bundle, "--name", "box:1", "--replace");
    assert.equal(await other.ok("run", "--rm", "box:1"), "byte for byte\nfast\n");
  });

  test("leaves nothing: where it is refused, and where its last name goes", async () => {
    const before = await contentOf(other);
    await writeFile(join(scratch, "none"), Buffer.alloc(2 ** 20, "x"));
    for (const command of ["register", "import"]) {
      const refused = await other.kiln(["image", command, join(scratch, "none"), "--name", "none", "--json"]);
      const { code } = JSON.parse(refused.stderr) as { code: string };
      assert.equal(code, command === "register" ? "ROOTFS_INVALID" : "BUNDLE_INVALID");
    }
    assert.deepEqual(await contentOf(other), before);
    await other.ok("rmi", "mine:1", "box:1");
    await other.ok("prune", "-af");
    assert.deepEqual(await contentOf(other), []);
    await requireSameSum(other);
  });
});
