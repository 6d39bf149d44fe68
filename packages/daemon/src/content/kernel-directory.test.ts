import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { systemClock } from "@kiln/std";
import { Apt } from "../host/apt.ts";
import { parseKernelManifest } from "../kernels/kernel-set.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import { KernelDirectory } from "./kernel-directory.ts";

const run = promisify(execFile);
const signal = AbortSignal.timeout(300_000);
const quiet = { signal, onPhase: () => undefined };

/** Builds a set in `home` and prints its record. */
const BUILD = `
const [home] = process.argv.slice(1);
const { KernelDirectory } = await import(${JSON.stringify(fileURLToPath(new URL("kernel-directory.ts", import.meta.url)))});
const { Apt } = await import(${JSON.stringify(fileURLToPath(new URL("../host/apt.ts", import.meta.url)))});
const { systemClock } = await import("@kiln/std");
const paths = { directory: home + "/kernels", stagingDir: home + "/staging", agentPath: home + "/../agent" };
const sets = new KernelDirectory({ ...paths, apt: new Apt({ stagingDir: paths.stagingDir, clock: systemClock }), clock: systemClock });
console.log(JSON.stringify(await sets.build({ signal: AbortSignal.timeout(300000), onPhase: () => undefined })));
`;

const buildInProcess = async (home: string): Promise<KernelRecord> => {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", BUILD, home], {
    cwd: fileURLToPath(new URL(".", import.meta.url)),
  });
  return JSON.parse(stdout) as KernelRecord;
};

suite("kernel sets", () => {
  let root = "";
  const open = (home: string): KernelDirectory => {
    const paths = { directory: join(root, home, "kernels"), stagingDir: join(root, home, "staging"), agentPath: join(root, "agent") };
    return new KernelDirectory({ ...paths, apt: new Apt({ stagingDir: paths.stagingDir, clock: systemClock }), clock: systemClock });
  };
  let [one, two]: KernelRecord[] = [];

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "kiln kernels "));
    await writeFile(join(root, "agent"), "stands for the agent", { mode: 0o755 });
    [one, two] = await Promise.all([buildInProcess(join(root, "one")), buildInProcess(join(root, "two"))]);
  });
  after(() => rm(root, { recursive: true }));

  const record = (): KernelRecord => {
    assert.ok(one);
    return one;
  };

  test("I9 two builders in two processes make the same bytes", async () => {
    const own = { createdAt: "", fingerprints: {} };
    assert.deepEqual({ ...record(), ...own }, { ...two, ...own });
    for (const file of ["vmlinux", "initramfs", "modules.ext4", "manifest.json"]) {
      const [a, b] = await Promise.all(["one", "two"].map((home) => readFile(join(root, home, "kernels", record().key, file))));
      assert.ok(a !== undefined && b !== undefined && a.equals(b), file);
    }
    assert.deepEqual(await readdir(join(root, "one/staging")), []);
  });

  test("a set is what its manifest says, read-only, and its record names the package", async () => {
    const directory = open("one").path(record().key);
    const manifest = parseKernelManifest(await readFile(join(directory, "manifest.json"), "utf8"), record().key);
    for (const [file, { sha256, size }] of Object.entries(manifest.files)) {
      const bytes = await readFile(join(directory, file));
      assert.deepEqual([bytes.length, createHash("sha256").update(bytes).digest("hex")], [size, sha256]);
      assert.equal((await stat(join(directory, file))).mode & 0o777, 0o444);
    }
    assert.equal((await stat(directory)).mode & 0o777, 0o755);
    assert.match(record().source, /^deb:linux-image-\d\S*-cloud-amd64=\S+$/);
    const { boot, block, overlay } = manifest.modules;
    assert.equal(boot.at(-1), "virtio_console");
    assert.ok(boot.indexOf("virtio_ring") < boot.indexOf("virtio") && boot.indexOf("virtio") < boot.indexOf("virtio_pci"), boot.join());
    assert.deepEqual([block, overlay], [["virtio_blk"], ["overlay"]]);
    assert.deepEqual((await open("one").open(record().key)).setupModules, ["virtio_blk", "overlay"]);
  });

  test("the initramfs has the agent as init, every module that is listed, and nothing packed", async () => {
    const { initramfs } = await open("one").open(record().key);
    const manifest = await open("one").manifest(record().key);
    const input = await readFile(initramfs);
    const cpio = (...args: string[]): string =>
      execFileSync("cpio", [...args, "--quiet"], { input, encoding: "utf8", stdio: ["pipe", "pipe", "ignore"] });
    const names = cpio("-it").trim().split("\n");
    for (const name of Object.values(manifest.modules).flat()) assert.ok(names.includes(`modules/${name}.ko`), name);
    for (const name of ["dev/console", "dev/null", "proc", "sys", "newroot"]) assert.ok(names.includes(name), name);
    assert.equal(cpio("-i", "--to-stdout", "init"), "stands for the agent");
    assert.deepEqual(cpio("-i", "--to-stdout", "modules/boot.list").trim().split("\n"), manifest.modules.boot);
  });

  test("the modules' image is a sound ext4 with the release at its root", async () => {
    const { modulesImage } = await open("one").open(record().key);
    const { release } = await open("one").manifest(record().key);
    execFileSync("e2fsck", ["-fn", modulesImage], { stdio: "ignore" });
    const list = execFileSync("debugfs", ["-R", `ls -p /${release}`, modulesImage], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    for (const name of ["kernel", "modules.builtin", "modules.dep", "modules.dep.bin"]) assert.match(list, new RegExp(`/${name}/`));
  });

  test("I7 a daemon that starts trusts a set that looks as it was recorded, and reads one that does not", async () => {
    const bytesRead = async (): Promise<number> => Number(/^rchar: (\d+)$/m.exec(await readFile("/proc/self/io", "utf8"))?.[1]);
    const readBy = async (which: KernelRecord): Promise<number> => {
      const [sets, before] = [open("one"), await bytesRead()];
      assert.deepEqual(await Promise.all(Array.from({ length: 10 }, () => sets.isWhole(which, { signal }))), Array(10).fill(true));
      return (await bytesRead()) - before;
    };
    const { fingerprints, ...old } = record();
    assert.deepEqual(Object.keys(fingerprints ?? {}), ["vmlinux", "initramfs", "modules.ext4", "manifest.json"]);
    assert.ok((await readBy(record())) < 2 ** 20);
    const read = await readBy(old);
    assert.ok(read >= old.sizeBytes && read < 2 * old.sizeBytes, `${read} bytes, once for all`);
  });

  test("I7 a set whose file is touched is read again, and one that is short, changed or gone is not whole", async () => {
    const sets = open("two");
    const own = (): KernelRecord => {
      assert.ok(two);
      return two;
    };
    const file = join(sets.path(record().key), "initramfs");
    const isWhole = () => sets.isWhole(own(), { signal });
    assert.equal(await isWhole(), true);
    await utimes(file, 1, 1);
    assert.equal(await isWhole(), true, "the same bytes");
    await chmod(file, 0o644);
    const bytes = await readFile(file);
    await writeFile(
      file,
      bytes.map((byte, index) => (index === 500 ? byte ^ 1 : byte)),
    );
    assert.equal(await isWhole(), false, "changed");
    await truncate(file, 100);
    assert.equal(await isWhole(), false, "short");
    await rm(file);
    assert.equal(await isWhole(), false, "gone");
    await sets.remove(record().key);
    assert.equal(await isWhole(), false);
    await sets.remove(record().key);
  });

  test("I14 a damaged set makes way for a whole one, and a whole one is not built again", async () => {
    const sets = open("one");
    const file = join(sets.path(record().key), "vmlinux");
    const { ino } = await stat(file);
    const phases: string[] = [];
    await sets.build({ signal, onPhase: (name) => phases.push(name) });
    assert.deepEqual([phases, (await stat(file)).ino], [["resolve kernel"], ino]);
    await chmod(file, 0o644);
    await truncate(file, 1000);
    const again = await sets.build(quiet);
    assert.equal(again.digest, record().digest);
    assert.equal(await sets.isWhole(again, { signal }), true);
  });

  test("I11 a caller that leaves a build leaves nothing in staging and no set", async () => {
    const sets = open("left");
    const abort = new AbortController();
    const leave = (name: string): void => {
      if (name === "unpack kernel") setTimeout(() => abort.abort(new Error("left")), 20);
    };
    await assert.rejects(sets.build({ signal: abort.signal, onPhase: leave }));
    assert.deepEqual([await readdir(join(root, "left/staging")), await readdir(join(root, "left/kernels"))], [[], []]);
  });

  test("I8 a manifest that is not complete is refused with the field's name", async () => {
    const text = await readFile(join(open("one").path(record().key), "manifest.json"), "utf8");
    const without = { ...(JSON.parse(text) as Record<string, unknown>), release: undefined };
    assert.throws(() => parseKernelManifest(JSON.stringify(without), "x"), { code: "ARTIFACT_DAMAGED", message: /release/ });
    assert.throws(() => parseKernelManifest("{", "x"), { code: "ARTIFACT_DAMAGED" });
    await assert.rejects(open("one").open("0".repeat(64)), { code: "ARTIFACT_DAMAGED" });
  });

  test("a missing agent is said before anything is fetched", async () => {
    const paths = { directory: join(root, "x/kernels"), stagingDir: join(root, "x/staging"), agentPath: join(root, "no agent") };
    const sets = new KernelDirectory({ ...paths, apt: new Apt({ stagingDir: paths.stagingDir, clock: systemClock }), clock: systemClock });
    await assert.rejects(sets.builderDigest(), { code: "HOST_TOOL_MISSING", message: /agent/ });
    await assert.rejects(sets.build(quiet), { code: "HOST_TOOL_MISSING" });
  });
});
