/** Kernels of other Debian releases mount an image and read all of it, as the host's kernel does. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { runTool } from "@kiln/std/node";
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";
import { debianKernel, LISTING, ReleaseGoneError, type DebianKernel } from "../fixtures/debian-kernels.ts";
import { writeLayouts } from "./generated.ts";
import { stacks } from "./stack.ts";
import { readLayers } from "./unpack.ts";

const skip = process.getuid?.() === 0 && process.arch === "x64" ? false : "needs root, and Debian's packages for amd64";
const timeout = 600_000;
const signal = AbortSignal.timeout(timeout);
const BOOT_MS = 180_000;
const SEED = 510;
const ANSWER_BYTES = 32 * 2 ** 20;

/** The oldest that knows all of an image's features, the one that Kiln boots, and the newest of a stable release. */
const SUITES: readonly (readonly [suite: string, kernel: string])[] = [
  ["bullseye", "5.10"],
  ["bookworm", "6.1"],
  ["trixie", "6.12"],
];

let home: string;
let image: string;
let expected: string;

/** A big directory, holes, and every length of symlink's place. */
const ownLayer = async (): Promise<LayerSource> => {
  const files = join(home, "files");
  await mkdir(join(files, "big"), { recursive: true });
  const script = `
    for i in $(seq 3000); do echo $i > "big/entry $i"; done
    truncate -s 40M holes; printf x >> holes; printf y | dd of=holes bs=1 seek=20000001 conv=notrunc status=none
    for i in $(seq 40); do printf z | dd of=many bs=1 seek=$((i * 65536)) conv=notrunc status=none; done
    ln -s "$(printf %059d 0)" inline; ln -s "$(printf %060d 0)" block; ln -s "$(printf %04095d 0)" longest
    dd if=/dev/urandom of=data bs=1M count=3 status=none; touch -d @9000000000.5 data; chown 4000000000:70000 data`;
  await runTool("sh", ["-euc", script], { signal, cwd: files });
  const path = join(home, "own.tar");
  await runTool("tar", ["-C", files, "--format=posix", "--sparse", "-cf", path, "."], { signal });
  return {
    path,
    mediaType: "tar",
    diffId: `sha256:${createHash("sha256")
      .update(await readFile(path))
      .digest("hex")}`,
  };
};

const busyboxListing = async (root: string): Promise<string> => {
  const { stdout } = await runTool(
    "busybox",
    ["sh", "-c", LISTING.replaceAll(/\b(find|sort|xargs|stat|readlink|sha256sum) /g, "busybox $1 ")],
    {
      ...{ signal, cwd: root, maxOutputBytes: ANSWER_BYTES },
    },
  );
  return Buffer.from(stdout).toString("latin1");
};

before(async () => {
  if (skip !== false) return;
  home = await mkdtemp(join(tmpdir(), "kiln-kernels-"));
  image = join(home, "image.ext4");
  const [stack] = fc.sample(stacks, { seed: SEED, numRuns: 1 });
  await mkdir(join(home, "stack"));
  const generated = await readLayers((await writeLayouts(stack ?? [], join(home, "stack"), { signal })).ours);
  await buildRootfs({ layers: [...generated, await ownLayer()], target: image, key: "6e".repeat(32) }, { signal });
  const root = join(home, "root");
  await mkdir(root);
  await runTool("mount", ["-o", "loop,ro", image, root], { signal });
  try {
    expected = await busyboxListing(root);
  } finally {
    await runTool("umount", [root], { signal });
  }
});
after(async () => {
  if (skip === false) await rm(home, { recursive: true });
});

const boot = async (kernel: DebianKernel): Promise<string> => {
  const answer = join(home, `${kernel.release}.answer`);
  await writeFile(answer, "");
  await using file = await open(answer, "r+");
  await file.truncate(ANSWER_BYTES);
  const disk = (id: string, path: string, more: string): string[] => [
    ...["-drive", `file=${path},format=raw,if=none,id=${id}${more}`, "-device", `virtio-blk-pci,drive=${id}`],
  ];
  const machine = ["-machine", "q35,accel=tcg,i8042=off,usb=off,sata=off,smbus=off,hpet=off", "-m", "512", "-nic", "none"];
  // QEMU 7.2 spoils the flags in cmpxchg16b of a segment, which later kernels allocate memory with where the CPU has it
  const cpu = ["-cpu", "qemu64,-cx16"];
  const run = ["-nodefaults", "-display", "none", "-no-reboot", "-kernel", kernel.bzImage, "-initrd", kernel.initramfs];
  const words = "quiet tsc=reliable no_timer_check mitigations=off panic=-1";
  await runTool(
    "qemu-system-x86_64",
    [...machine, ...cpu, ...run, "-append", words, ...disk("a", image, ",readonly=on"), ...disk("b", answer, "")],
    { signal: AbortSignal.any([signal, AbortSignal.timeout(BOOT_MS)]) },
  );
  return (await readFile(answer, "latin1")).replace(/\0+$/, "");
};

/** The release that Kiln runs on is always there; older ones may be gone. */
const kernelOf = async (suite: string): Promise<DebianKernel | ReleaseGoneError> => {
  try {
    return await debianKernel(suite, { signal });
  } catch (error) {
    if (error instanceof ReleaseGoneError && suite !== "bookworm") return error;
    throw error;
  }
};

for (const [suite, version] of SUITES)
  test(`Linux ${version} mounts an image and reads all of it as the host's kernel does`, { skip, timeout }, async (t) => {
    const kernel = await kernelOf(suite);
    if (kernel instanceof ReleaseGoneError) return t.skip(kernel.message);
    assert.ok(kernel.release.startsWith(`${version}.`), kernel.release);
    const [listing = "", release = "", rest = ""] = (await boot(kernel)).split("=== ");
    assert.equal(release.trim(), kernel.release, "no error or warning of ext4");
    assert.equal(rest, "end\n");
    assert.equal(listing, expected);
    assert.ok(listing.split("\n").length > 6000);
  });
