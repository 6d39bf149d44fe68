import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, open, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { DfReport, OperationView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const MIB = 2 ** 20;
const DISK_BYTES = 128 * MIB;
const skip = process.getuid?.() === 0 ? false : "needs root for a loop mount";

/** A small file system of its own, mounted; unmounted and removed at the end. */
class SmallDisk implements AsyncDisposable {
  readonly #root: string;
  readonly path: string;

  private constructor(root: string) {
    this.#root = root;
    this.path = join(root, "mnt");
  }

  static async create(bytes: number): Promise<SmallDisk> {
    const disk = new SmallDisk(await mkdtemp(join(tmpdir(), "kiln-small-")));
    const image = join(disk.#root, "image");
    await using file = await open(image, "w");
    await file.truncate(bytes);
    execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", image]);
    await mkdir(disk.path);
    execFileSync("mount", ["-o", "loop", image, disk.path]);
    return disk;
  }

  /** Fills it until `left` bytes are free, with blocks that are really taken. */
  async fill(left: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.path);
    execFileSync("fallocate", ["-l", String(bavail * bsize - left), join(this.path, "filler")]);
  }

  /** Until not one block is free. */
  fillUp(): void {
    const { stderr } = spawnSync("dd", ["if=/dev/zero", `of=${join(this.path, "filler")}`, "bs=4096"], { encoding: "utf8" });
    assert.match(stderr, /No space left/);
  }

  async empty(): Promise<void> {
    await rm(join(this.path, "filler"), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // whoever looks through all processes may hold one of its files for a moment
    await waitUntil(async () => spawnSync("umount", [this.path]).status === 0, "the disk's last user");
    await rm(this.#root, { recursive: true });
  }
}

/** A layout with one plain layer of `bytes` that do not compress and are no holes. */
const writeLayout = async (directory: string, bytes: number): Promise<string> => {
  const files = join(directory, "files");
  const layout = join(directory, "layout");
  await mkdir(files, { recursive: true });
  execFileSync("sh", ["-c", `head -c ${bytes} /dev/urandom > ${files}/data`]);
  execFileSync("umoci", ["init", "--layout", layout]);
  execFileSync("umoci", ["new", "--image", `${layout}:big`]);
  execFileSync("umoci", ["insert", "--image", `${layout}:big`, files, "/files"]);
  return `oci:${layout}:big`;
};

const inHome = async (run: (home: TestHome, disk: SmallDisk, scratch: string) => Promise<void>): Promise<void> => {
  await using disk = await SmallDisk.create(DISK_BYTES);
  const scratch = await mkdtemp(join(tmpdir(), "kiln-full-"));
  try {
    await using home = TestHome.at(join(disk.path, "home"), { KILN_DRIVER: "fake" });
    await run(home, disk, scratch);
  } finally {
    await rm(scratch, { recursive: true });
  }
};

const expectFull = async (home: TestHome, ...args: string[]): Promise<void> => {
  const outcome = await home.kiln(["--json", ...args]);
  assert.equal(outcome.code, 1, outcome.stderr);
  assert.equal(outcome.stdout, "");
  assert.equal((JSON.parse(outcome.stderr) as { code: string }).code, "DISK_FULL", outcome.stderr);
};

/** Nothing unfinished, nothing that no record owns, and every byte accounted for. */
const expectWhole = async (home: TestHome): Promise<DfReport> => {
  assert.deepEqual(await readdir(join(home.path, "staging")), []);
  const df = await home.json<DfReport>("df");
  assert.deepEqual(df.orphans, []);
  const du = Number(execFileSync("du", ["-s", "--block-size=1", home.path], { encoding: "utf8" }).split("\t")[0]);
  assert.ok(Math.abs(df.total.diskBytes - du) <= 64 * 1024, `df says ${df.total.diskBytes}, du says ${du}`);
  assert.equal(
    df.total.diskBytes,
    df.items.reduce((sum, item) => sum + item.diskBytes, 0),
  );
  return df;
};

test("I15 a full disk is DISK_FULL wherever it is met, the store stays whole, and with room the same command succeeds", { skip }, () =>
  inHome(async (home, disk, scratch) => {
    const reference = await writeLayout(scratch, 40 * MIB);
    await home.ok("images");
    await disk.fill(30 * MIB); // less than the layer
    await expectFull(home, "pull", reference);
    await expectWhole(home);
    await disk.empty();
    await disk.fill(70 * MIB); // the layer, but not its rootfs too
    await expectFull(home, "create", "--name", "x", reference, "--", "true");
    await expectWhole(home);
    await disk.empty();
    disk.fillUp();
    await expectFull(home, "pull", "deb:hello");
    await home.ok("ps", "-a");
    await disk.empty();
    await home.ok("pull", reference);
    await expectWhole(home);
    const failed = (await home.json<OperationView[]>("op", "ls", "-a")).filter((one) => one.state === "failed");
    assert.ok(failed.length > 0 && failed.every((one) => one.error?.code === "DISK_FULL"), JSON.stringify(failed));
  }),
);

test("I15 a daemon that cannot start in a home without a free block says so, and starts when there is room", { skip }, () =>
  inHome(async (home, disk) => {
    await home.ok("images");
    await home.ok("daemon", "stop");
    disk.fillUp();
    await expectFull(home, "images");
    await disk.empty();
    assert.deepEqual(await home.json("images"), []);
  }),
);
