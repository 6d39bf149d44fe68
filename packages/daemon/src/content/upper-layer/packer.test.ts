import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { gunzipSync } from "node:zlib";
import { systemClock } from "@kiln/std";
import { runTool } from "@kiln/std/node";
import { ContentLeases } from "../../images/leases.ts";
import { ContentStore } from "../content-store.ts";
import { UpperPacker } from "./packer.ts";

const signal = AbortSignal.timeout(60_000);

type Tree = (root: string) => Promise<void>;

/** Disks that mke2fs has made of two trees, and what packs them. */
const stage = async (context: TestContext, { base, upper }: { base: Tree; upper: Tree }) => {
  const root = await mkdtemp(join(tmpdir(), "kiln-upper-"));
  context.after(() => rm(root, { recursive: true, force: true }));
  const content = new ContentStore({ directory: join(root, "content"), stagingDir: join(root, "staging") });
  const disk = { path: await makeDisk(root, "writable", upper), rootfs: await makeDisk(root, "rootfs", base), owner: "web" };
  const leases = new ContentLeases(systemClock);
  return {
    ...{ root, content, disk, leases },
    pack: async (within = signal) => {
      using lease = leases.begin();
      const layer = await new UpperPacker(content).pack(disk, { lease, signal: within, onProgress: () => undefined });
      if (layer !== null) assert.ok(leases.isLeased(layer.digest), "held from its name on");
      return layer;
    },
  };
};

const makeDisk = async (root: string, name: string, fill: Tree): Promise<string> => {
  const [tree, path] = [join(root, `${name}.tree`), join(root, name)];
  await mkdir(tree);
  await fill(tree);
  await writeFile(path, "");
  await truncate(path, 32 * 2 ** 20);
  await runTool("mke2fs", ["-q", "-t", "ext4", "-d", tree, path], { signal });
  return path;
};

const NOTHING: Tree = async () => undefined;

const listTar = async (tar: Uint8Array): Promise<string[]> => {
  const { stdout } = await runTool("tar", ["-tf", "-"], { signal, stdin: tar });
  return Buffer.from(stdout).toString().trim().split("\n");
};

test("what was written becomes a layer, packed, under the digest of its tar", async (context) => {
  const { content, pack } = await stage(context, {
    base: NOTHING,
    upper: async (root) => {
      await mkdir(join(root, "upper/etc"), { recursive: true });
      await mkdir(join(root, "work"));
      await writeFile(join(root, "upper/etc/mine"), "mine");
    },
  });
  const [layer, again] = [await pack(), await pack()];
  assert.ok(layer !== null);
  assert.deepEqual(again, layer, "the same tree is the same layer");
  const blob = await readFile(content.path(layer.digest));
  assert.equal(blob.length, layer.size);
  const tar = gunzipSync(blob);
  assert.equal(layer.diffId, `sha256:${createHash("sha256").update(tar).digest("hex")}`);
  assert.deepEqual(await listTar(tar), ["./", "etc/", "etc/mine"]);
});

test("a disk that nothing was written to gives none, whether it is there or not", async (context) => {
  const empty = await stage(context, { base: NOTHING, upper: (root) => mkdir(join(root, "upper")) });
  assert.equal(await empty.pack(), null);
  const unmounted = await stage(context, { base: NOTHING, upper: NOTHING });
  assert.equal(await unmounted.pack(), null);
  await rm(unmounted.disk.path);
  assert.equal(await unmounted.pack(), null);
  assert.deepEqual(await readdir(join(unmounted.root, "staging")).catch(() => []), []);
});

test("targets of the image's links that the agent had to make are not the guest's, those of others are", async (context) => {
  const { content, pack } = await stage(context, {
    base: async (root) => {
      await mkdir(join(root, "etc"));
      await mkdir(join(root, "var/lib"), { recursive: true });
      await symlink("../var/lib/net/resolv.conf", join(root, "etc/resolv.conf"));
      await symlink("/var/lib/names/hosts", join(root, "etc/hosts"));
      await symlink("hostname.real", join(root, "etc/hostname"));
    },
    upper: async (root) => {
      await mkdir(join(root, "upper/var/lib/net"), { recursive: true });
      await mkdir(join(root, "upper/var/lib/names"));
      await mkdir(join(root, "upper/etc"));
      await writeFile(join(root, "upper/var/lib/net/resolv.conf"), "");
      await writeFile(join(root, "upper/var/lib/names/hosts"), "");
      await writeFile(join(root, "upper/var/lib/names/mine"), "");
      await writeFile(join(root, "upper/etc/hostname.real"), "written by somebody");
    },
  });
  const layer = await pack();
  assert.ok(layer !== null);
  const names = await listTar(gunzipSync(await readFile(content.path(layer.digest))));
  assert.deepEqual(names, ["./", "etc/", "etc/hostname.real", "var/", "var/lib/", "var/lib/names/", "var/lib/names/mine"]);
});

test("a damaged disk is a typed error, and an abort the caller's reason; neither leaves anything", async (context) => {
  const { root, content, disk, pack } = await stage(context, {
    base: NOTHING,
    upper: async (tree) => {
      await mkdir(join(tree, "upper"));
      for (let n = 0; n < 20; n += 1) await writeFile(join(tree, "upper", `file-${n}`), Buffer.alloc(900_000, n));
    },
  });
  const whole = join(root, "whole");
  await cp(disk.path, whole);
  const stopped = new AbortController();
  const reason = new Error("left");
  const packing = pack(stopped.signal);
  stopped.abort(reason);
  await assert.rejects(packing, reason);
  await truncate(disk.path, 2 ** 20);
  await assert.rejects(pack(), { code: "LAYER_INVALID", message: /the disk of web cannot become a layer/ });
  await writeFile(disk.path, Buffer.alloc(2 ** 20, 7));
  await assert.rejects(pack(), { code: "LAYER_INVALID" });
  await cp(whole, disk.path);
  const layer = await pack();
  assert.ok(layer !== null);
  const blobs: string[] = [];
  for await (const { digest } of content.list()) blobs.push(digest);
  assert.deepEqual(blobs, [layer.digest]);
  assert.deepEqual(await readdir(join(root, "staging")), []);
});
