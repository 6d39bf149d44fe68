import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { after, before, describe, test } from "node:test";
import type { Digest } from "@kiln/protocol";
import { fileFingerprint } from "@kiln/std/node";
import { buildTar } from "../../../formats/src/tar/tar-writer.fixture.ts";
import type { RootfsRecord } from "../images/records.port.ts";
import { homePaths, sweepStaging } from "../store/home.ts";
import type { BuildOnce, BuiltOnce } from "./build-once.fixture.ts";
import { RootfsDirectory } from "./rootfs-directory.ts";

const PROGRAM = join(import.meta.dirname, "build-once.fixture.ts");
const [KEY, OTHER_KEY] = ["a".repeat(64), "b".repeat(64)];
const BOUND_MS = 60_000;

const sha256 = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;

/** A process that builds when it is told to. */
class Builder implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #out: AsyncIterator<string>;
  readonly #said: string[] = [];

  private constructor(job: BuildOnce, failpoint: string) {
    const env = { ...process.env, KILN_TEST: "1", KILN_FAILPOINT: failpoint };
    this.#child = spawn(process.execPath, [PROGRAM, JSON.stringify(job)], { env, stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#said.push(text));
    this.#lines = createInterface({ input: this.#child.stdout ?? process.stdin });
    this.#out = this.#lines[Symbol.asyncIterator]();
  }

  static async start(job: BuildOnce, failpoint = ""): Promise<Builder> {
    const builder = new Builder(job, failpoint);
    assert.equal((await builder.#out.next()).value, "ready", builder.#said.join(""));
    return builder;
  }

  begin(): void {
    this.#child.stdin?.write("go\n");
  }

  async built(): Promise<BuiltOnce> {
    const line = await this.#out.next();
    assert.equal(line.done, false, this.#said.join(""));
    return JSON.parse(line.value) as BuiltOnce;
  }

  /** Its failpoint was reached. */
  async stopped(): Promise<void> {
    await until(() => this.#said.join("").includes("failpoint "));
  }

  async died(): Promise<void> {
    if (this.#child.signalCode === null) await once(this.#child, "exit");
    assert.equal(this.#child.signalCode, "SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lines.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + BOUND_MS;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

describe("two processes at one home", () => {
  let home = "";
  let expected = sha256(Buffer.of());
  let job: BuildOnce;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "kiln two "));
    const paths = homePaths(home);
    for (const directory of [paths.rootfs, paths.staging, join(paths.content, "sha256")]) await mkdir(directory, { recursive: true });
    const layers = await Promise.all(
      ["one", "two"].map(async (name) => {
        const tar = buildTar([
          { path: name, type: "directory" },
          { path: `${name}/file`, type: "file", content: name.repeat(300_000) },
        ]);
        await writeFile(join(paths.content, "sha256", sha256(tar).slice("sha256:".length)), tar);
        const mediaType = "application/vnd.oci.image.layer.v1.tar";
        return { digest: sha256(tar), diffId: sha256(tar), size: tar.length, mediaType, format: "tar" as const };
      }),
    );
    const image = { reference: "image", layers };
    job = { directory: paths.rootfs, stagingDir: paths.staging, content: paths.content, image, key: KEY, times: 1 };
    await using builder = await Builder.start(job);
    builder.begin();
    expected = (await builder.built()).digest ?? expected;
    await rm(rootfs());
  });
  after(() => rm(home, { recursive: true }));

  const rootfs = (key = KEY): string => join(homePaths(home).rootfs, `${key}.ext4`);
  const staging = (): Promise<string[]> => readdir(homePaths(home).staging);
  const expectWhole = async (): Promise<void> => assert.equal(sha256(await readFile(rootfs())), expected);

  test("I1 I9 both build one key at once: both succeed, with the same bytes", async () => {
    await using one = await Builder.start(job, "publish.staged:1=pause");
    await using other = await Builder.start(job);
    one.begin();
    await one.stopped(); // in the middle: built, and without a name
    other.begin();
    assert.deepEqual(await other.built(), { digest: expected, error: null });
    await expectWhole();
    await using third = await Builder.start(job);
    await using fourth = await Builder.start(job);
    for (const builder of [third, fourth]) builder.begin();
    for (const builder of [third, fourth]) assert.deepEqual(await builder.built(), { digest: expected, error: null });
    await expectWhole();
  });

  test("I2 builds of two keys are in their middle at the same time", async () => {
    await sweepStaging(homePaths(home));
    await using one = await Builder.start(job, "publish.staged=pause");
    await using other = await Builder.start({ ...job, key: OTHER_KEY }, "publish.staged=pause");
    for (const builder of [one, other]) builder.begin();
    for (const builder of [one, other]) await builder.stopped();
    assert.equal((await staging()).length, 2);
  });

  test("I6 I15 one is killed in its middle: the other's staging is untouched, no half file has the name, and a sweep takes what the dead one left", async () => {
    await sweepStaging(homePaths(home));
    await rm(rootfs(), { force: true });
    await using living = await Builder.start(job, "publish.staged=pause");
    living.begin();
    await living.stopped();
    const [mine] = await staging();
    const before = await fileFingerprint(join(homePaths(home).staging, mine ?? ""));
    await using dying = await Builder.start(job, "publish.written=kill");
    dying.begin();
    await dying.died();
    assert.ok(!existsSync(rootfs()));
    assert.equal((await staging()).length, 2);
    assert.deepEqual(await fileFingerprint(join(homePaths(home).staging, mine ?? "")), before);
    await using third = await Builder.start(job);
    third.begin();
    assert.equal((await third.built()).digest, expected);
    assert.equal((await staging()).length, 2, "a success cleans up after itself only");
    assert.equal(await sweepStaging(homePaths(home)), 2);
    await expectWhole();
  });

  test("I6 I13 one fails in its own way: it takes only its own staging away, and the other succeeds", async () => {
    await sweepStaging(homePaths(home));
    const [first] = job.image.layers;
    assert.ok(first !== undefined);
    const lying = { ...job.image, layers: [{ ...first, diffId: sha256(Buffer.from("other")) }] };
    await using living = await Builder.start(job, "publish.staged=pause");
    living.begin();
    await living.stopped();
    const held = await staging();
    await using failing = await Builder.start({ ...job, image: lying });
    failing.begin();
    assert.deepEqual(await failing.built(), { digest: null, error: "LAYER_INVALID" });
    assert.deepEqual(await staging(), held);
  });

  test("I4 I14 who reads while the other replaces the file over and over reads one version whole, and an open file stays what it was", async () => {
    await using builder = await Builder.start({ ...job, times: 5 });
    await using held = await openRootfs();
    const inode = (await fileFingerprint(rootfs()))?.ino;
    const built = builder.built();
    let isOver = false;
    void built.finally(() => (isOver = true));
    builder.begin();
    const inodes = new Set<string | undefined>();
    for (let reads = 0; !isOver || reads === 0; reads += 1) {
      inodes.add((await fileFingerprint(rootfs()))?.ino);
      await expectWhole();
    }
    assert.equal((await built).digest, expected);
    assert.ok(inodes.size > 1 && inode !== (await fileFingerprint(rootfs()))?.ino, "it was replaced while it was read");
    assert.equal(sha256(await held.readFile()), expected);
  });

  test("I7 what another process has done to a file is noticed before it is used", async () => {
    const { directory, stagingDir } = job;
    const files = new RootfsDirectory({ directory, stagingDir, blobPath: () => "" });
    const fingerprint = await fileFingerprint(rootfs());
    assert.ok(fingerprint !== null);
    const record: RootfsRecord = { key: KEY, digest: expected, fingerprint, createdAt: "" };
    const { signal } = new AbortController();
    assert.equal(await files.isWhole(record, { signal }), true);
    await using builder = await Builder.start(job);
    builder.begin();
    await builder.built();
    assert.notDeepEqual(await fileFingerprint(rootfs()), fingerprint);
    assert.equal(await files.isWhole(record, { signal }), true, "another file with the same bytes");
    const script = "require('fs').chmodSync(process.argv[1], 0o644); require('fs').truncateSync(process.argv[1], 4096)";
    const [code] = (await once(spawn(process.execPath, ["-e", script, rootfs()], { stdio: "ignore" }), "exit")) as [number];
    assert.equal(code, 0);
    assert.equal(await files.isWhole(record, { signal }), false);
  });

  const openRootfs = () => open(rootfs());
});
