/** Homes as wholes: two at once, full ones, what is removed and what is put right. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DfReport, ImageDetails, ImageView, PruneReport, VmView } from "@kiln/protocol";
import { flipByte } from "../../../packages/daemon/src/operations/testing/real-artifacts.ts";
import { waitUntil } from "../../e2e/home.ts";
import { guest, IMAGE, shell, SLEEP } from "../guests.ts";
import { global, type GlobalScenario, type Scenario } from "../scenario.ts";

const MIB = 2 ** 20;
/** The data of a rootfs begins behind its tables. */
const IN_DATA = 66 * 4096;

export const HOMES: readonly Scenario[] = [
  global(
    "two-homes",
    "two homes at once have VMs of the same names, and neither sees the other's; one daemon's end is not the other's",
    async ({ home }) => {
      const [one, two] = [await home({ from: "prepared" }), await home({ from: "prepared" })];
      await Promise.all([one, two].map((kiln) => kiln.ok("run", "-d", "--name", "web", ...guest(), ...SLEEP)));
      await one.ok("exec", "web", ...shell("echo one > /who"));
      await two.exits(1, ["exec", "web", "busybox", "cat", "/who"]);
      const [mine, others] = await Promise.all([one, two].map((kiln) => kiln.json<VmView>("inspect", "web")));
      assert.ok(mine !== undefined && others !== undefined && mine.id !== others.id && mine.pid !== others.pid);
      await one.home.killDaemon();
      assert.equal((await two.json<VmView>("inspect", "web")).pid, others.pid);
      await two.ok("rm", "-f", "web");
      assert.equal(await one.ok("exec", "web", "busybox", "cat", "/who"), "one\n");
    },
  ),

  global("long-home", "a home of two hundred characters with a space works, and so does --home", async ({ home, scratch }) => {
    const path = join(scratch, `a home ${"x".repeat(200)}`);
    const kiln = await home({ from: "prepared", at: path });
    await kiln.ok("run", "-d", "--name", "web", ...guest("-p", "80"), ...SLEEP);
    const outcome = await kiln.exits(0, ["--home", path, "exec", "web", "busybox", "echo", "reached"], { env: { KILN_HOME: "/nowhere" } });
    assert.equal(outcome.stdout, "reached\n");
  }),

  global(
    "prune",
    "I24 prune asks first, says what it would remove, and removes what nobody uses: never what runs, nor its image",
    async ({ home }) => {
      const kiln = await home({ from: "prepared" });
      await kiln.ok("tag", IMAGE, "unused:1");
      await kiln.ok("run", "-d", "--name", "runs", ...guest(), ...SLEEP);
      await kiln.ok("run", "--name", "ended", ...guest(), ...shell("echo other > /other"));
      await kiln.ok("commit", "-q", "ended", "other:1");
      assert.notEqual((await kiln.run(["prune"])).code, 0);
      const planned = await kiln.json<PruneReport>("prune", "--dry-run", "-a");
      assert.deepEqual([planned.dryRun, planned.removed.some(({ kind }) => kind === "vm")], [true, true]);
      assert.equal((await kiln.json<VmView[]>("ps", "-a")).length, 2);
      await kiln.ok("prune", "-f");
      assert.deepEqual(
        (await kiln.json<VmView[]>("ps", "-a")).map(({ name }) => name),
        ["runs"],
      );
      assert.ok((await kiln.json<ImageView[]>("images", "other:1")).length === 1);
      await kiln.ok("prune", "-af");
      const left = (await kiln.json<ImageView[]>("images")).map(({ reference }) => reference);
      assert.ok(left.includes(IMAGE) && !left.some((reference) => reference.includes("other")), left.join());
      assert.equal(await kiln.ok("exec", "runs", "busybox", "echo", "still"), "still\n");
      await kiln.ok("rm", "-f", "runs");
      await kiln.ok("image", "prune", "-af");
      assert.deepEqual(await kiln.json("images"), []);
      assert.deepEqual((await kiln.json<DfReport>("df")).orphans, []);
    },
  ),

  global(
    "damaged-rootfs",
    "I7 I14 a rootfs that a disk has damaged is found by verify, built again by rebuild, and found by scrub too",
    async ({ home }) => {
      const kiln = await home({ from: "prepared" });
      const [image] = await kiln.json<ImageDetails[]>("image", "inspect", IMAGE);
      const rootfs = join(kiln.home.path, "rootfs", `${image?.rootfsKey}.ext4`);
      await flipByte(rootfs, IN_DATA);
      const verified = await kiln.exits(1, ["--json", "image", "verify", IMAGE]);
      assert.match(verified.stderr, /ARTIFACT_DAMAGED/);
      await kiln.ok("image", "rebuild", IMAGE);
      await kiln.ok("image", "verify", IMAGE);
      assert.equal(await kiln.ok("run", "--rm", ...guest(), "busybox", "echo", "sound"), "sound\n");
      await flipByte(rootfs, IN_DATA);
      await kiln.run(["scrub"]);
      await kiln.ok("image", "verify", IMAGE);
    },
  ),

  {
    ...global("disk-full", "I15 a full disk is DISK_FULL, leaves nothing half made, and with room the same command succeeds", (place) =>
      fillDisk(place),
    ),
    skip: process.getuid?.() === 0 ? false : "needs root for a loop mount",
  },
];

const fillDisk: GlobalScenario["run"] = async ({ home, scratch, use }) => {
  const [file, mount] = [join(scratch, "disk"), join(scratch, "mnt")];
  await using image = await open(file, "w");
  await image.truncate(96 * MIB);
  execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", file]);
  await mkdir(mount);
  execFileSync("mount", ["-o", "loop", file, mount]);
  // whoever looks through all processes may hold one of its files for a moment
  use({
    [Symbol.asyncDispose]: () => waitUntil(async () => Promise.resolve(spawnSync("umount", [mount]).status === 0), "the disk's last user"),
  });
  const kiln = await home({ from: "empty", at: join(mount, "home") });
  const files = join(scratch, "files");
  await mkdir(files);
  execFileSync("sh", ["-c", `head -c ${30 * MIB} /dev/urandom > ${files}/data`]);
  const archive = join(scratch, "image.tar");
  await writeFile(join(files, "word"), "word");
  const layout = join(scratch, "layout");
  for (const args of [
    ["init", "--layout", layout],
    ["new", "--image", `${layout}:big`],
    ["insert", "--image", `${layout}:big`, files, "/files"],
  ])
    execFileSync("umoci", args);
  execFileSync("tar", ["-C", layout, "-cf", archive, "."]);
  await kiln.ok("images");
  execFileSync("fallocate", ["-l", String(50 * MIB), join(mount, "filler")]);
  const load = ["load", "-i", archive, "--name", "big:1"];
  await kiln.problem({ exit: 1, code: "DISK_FULL" }, ...load);
  assert.deepEqual((await kiln.json<DfReport>("df")).orphans, []);
  assert.deepEqual(await kiln.json("images"), []);
  await rm(join(mount, "filler"));
  await kiln.ok(...load);
  await kiln.ok("rmi", "big:1");
};
