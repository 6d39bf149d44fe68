import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, describe, test } from "node:test";
import { zstdCompressSync, gzipSync } from "node:zlib";
import type { DfReport, ImageDetails, ImageView } from "@kiln/protocol";
import { kiln as runKiln, type KilnOptions, type KilnRun } from "../testing/kiln-process.ts";
import { inspect, skopeo, writeLayout } from "../testing/image-files.ts";

const BIN = fileURLToPath(new URL("../../bin/kiln.mjs", import.meta.url));

/** Archives by skopeo and tar, a real daemon with the fake driver. */
let root = "";
const file = (name: string): string => join(root, name);

const runAt = (home: string, argv: readonly string[], options: Partial<KilnOptions> = {}): Promise<KilnRun> =>
  runKiln(argv, { cwd: root, ...options, home: file(home), env: { KILN_DRIVER: "fake", TMPDIR: root, ...options.env } });
const run = (...argv: string[]): Promise<KilnRun> => runAt("home", argv);

const ok = async (...argv: string[]): Promise<string> => {
  const { exitCode, stdout, stderr } = await run(...argv);
  assert.equal(exitCode, 0, `kiln ${argv.join(" ")}: ${stderr}`);
  return stdout;
};
const json = async <Value>(...argv: string[]): Promise<Value> => JSON.parse(await ok(...argv, "--json")) as Value;
const names = async (): Promise<string[]> => (await json<ImageView[]>("images")).map((image) => image.reference).toSorted();
const digestOfImage = async (name: string): Promise<string> => (await json<ImageDetails[]>("image", "inspect", name))[0]?.digest ?? "";

before(async () => {
  root = await mkdtemp(join(tmpdir(), "kiln-archives-"));
  await mkdir(file("home"), { mode: 0o700 });
  await mkdir(file("other"), { mode: 0o700 });
  await writeLayout(file("layout"), [
    { tag: "one", layers: ["first", "second"] },
    { tag: "two", layers: ["first", "third"] },
  ]);
  await skopeo(root, "copy", "oci:layout:one", "docker-archive:docker.tar:tool:1.2");
  await skopeo(root, "copy", "oci:layout:one", "oci-archive:oci.tar:docker.io/library/named:3");
  await skopeo(root, "copy", "oci:layout:two", "oci-archive:bare.tar:v2");
});

after(async () => {
  for (const home of ["home", "other"]) assert.equal((await runAt(home, ["daemon", "stop"])).exitCode, 0);
  await rm(root, { recursive: true });
});

describe("load", () => {
  test("an archive of docker's, under the names it gives", async () => {
    assert.equal(await ok("load", "-i", "docker.tar"), "Loaded image: tool:1.2\n");
    const [image] = await json<ImageDetails[]>("image", "inspect", "tool:1.2");
    const expected = await inspect(root, "oci:layout:one");
    assert.deepEqual(
      image?.layerList.map((layer) => layer.diffId),
      expected.diffIds,
    );
    assert.deepEqual(
      image?.layerList.map((layer) => layer.digest),
      expected.diffIds,
      "its layers are plain tars",
    );
    assert.deepEqual(image?.config.cmd, ["/bin/hello"]);
    assert.deepEqual(image?.names, ["docker.io/library/tool:1.2"]);
  });
  test("makes the same image of the same archive, whatever it came through", async () => {
    const digest = await digestOfImage("tool:1.2");
    const plain = await readFile(file("docker.tar"));
    execFileSync("xz", ["-k", file("docker.tar")]);
    await writeFile(file("docker.tar.gz"), gzipSync(plain));
    await writeFile(file("docker.tar.zst"), zstdCompressSync(plain));
    for (const name of ["docker.tar.gz", "docker.tar.zst", "docker.tar.xz"]) {
      assert.equal(await ok("load", "--input", name), "Loaded image: tool:1.2\n", name);
      const piped = await runAt("home", ["load"], { input: await readFile(file(name)) });
      assert.deepEqual([piped.exitCode, piped.stdout], [0, "Loaded image: tool:1.2\n"], piped.stderr);
    }
    const piped = await runAt("home", ["load", "--json"], { input: plain });
    assert.deepEqual(
      (JSON.parse(piped.stdout) as ImageView[]).map((image) => image.digest),
      [digest],
    );
    assert.deepEqual(
      (await readdir(root)).filter((name) => name.startsWith(".kiln")),
      [],
      "nothing is left of what was unpacked",
    );
  });
  test("an OCI archive keeps the digests of its manifests", async () => {
    assert.equal(await ok("load", "-i", "oci.tar"), "Loaded image: named:3\n");
    assert.equal(await digestOfImage("named:3"), (await skopeo(root, "inspect", "--format", "{{.Digest}}", "oci:layout:one")).trim());
  });
  test("an image without a name needs one, and is told so", async () => {
    const nameless = await run("load", "-i", "bare.tar");
    assert.deepEqual([nameless.exitCode, nameless.stdout], [2, ""]);
    assert.match(nameless.stderr, /bare\.tar: the archive gives its image no name\n {2}hint: name it with --name/);
    assert.equal(
      await ok("load", "-i", "bare.tar", "--name", "registry.example:5000/a/b"),
      "Loaded image: registry.example:5000/a/b:latest\n",
    );
    for (const name of ["A", "x@sha256:00", `x@sha256:${"0".repeat(64)}`, "oci:x", "deb:x"])
      assert.match((await run("load", "-i", "bare.tar", "--name", name)).stderr, /is no image reference|is not NAME\[:TAG\]/, name);
  });
  test("an image for another platform is refused by what it is for", async () => {
    await writeLayout(file("arm"), [{ tag: "docker.io/library/arm:1", layers: ["x"], architecture: "arm64" }]);
    execFileSync("tar", ["-C", file("arm"), "-cf", file("arm.tar"), "."]);
    const refused = await run("load", "-i", "arm.tar", "--json");
    assert.equal((JSON.parse(refused.stderr) as { code: string }).code, "IMAGE_PLATFORM_MISSING");
    assert.equal(await ok("load", "-i", "arm.tar", "--platform", "arm64"), "Loaded image: arm:1\n");
    assert.equal((await json<ImageDetails[]>("image", "inspect", "arm:1"))[0]?.platform, "linux/arm64");
  });
});

describe("a reference to an archive", () => {
  test("is pulled by its tag or name, and up to date the second time", async () => {
    assert.match(await ok("pull", "oci-archive:bare.tar:v2"), /^oci-archive:bare\.tar:v2\n {2}sha256:[0-9a-f]{64}\n {2}imported\n$/);
    assert.match(await ok("pull", "oci-archive:bare.tar:v2"), /\n {2}up to date\n$/);
    for (const reference of [
      "docker-archive:docker.tar",
      "docker-archive:docker.tar:tool:1.2",
      "docker-archive:docker.tar:1.2",
      "docker-archive:docker.tar:@0",
    ]) {
      assert.match(await ok("pull", reference), /\n {2}imported\n$/, reference);
      assert.equal(await digestOfImage(reference), await digestOfImage("tool:1.2"));
    }
    const missing = await run("pull", "docker-archive:docker.tar:nope", "--json");
    const problem = JSON.parse(missing.stderr) as { code: string; detail: string };
    assert.equal(problem.code, "IMAGE_NOT_FOUND");
    assert.match(problem.detail, /there is no image nope; there is tool:1\.2/);
  });
});

describe("save", () => {
  test("makes an archive that skopeo reads in both forms", async () => {
    await ok("save", "-o", "saved.tar", "tool:1.2", "named:3");
    const expected = await inspect(root, "oci:layout:one");
    for (const reference of [
      "docker-archive:saved.tar:tool:1.2",
      "docker-archive:saved.tar:named:3",
      "oci-archive:saved.tar:docker.io/library/tool:1.2",
      "oci-archive:saved.tar:docker.io/library/named:3",
    ]) {
      await rm(file("copied"), { recursive: true, force: true });
      await skopeo(root, "copy", reference, "oci:copied:x");
      assert.deepEqual(await inspect(root, "oci:copied:x"), expected, reference);
    }
    execFileSync("umoci", ["unpack", "--rootless", "--image", `${file("copied")}:x`, file("unpacked")]);
    assert.equal(await readFile(file("unpacked/rootfs/bin/hello"), "utf8"), "second");
  });
  test("an archive of docker's media types and packed layers too", async () => {
    await skopeo(root, "copy", "--format", "v2s2", "oci:layout:two", "dir:schema2");
    await skopeo(root, "copy", "dir:schema2", "oci-archive:schema2.tar:docker.io/library/old:1");
    await ok("load", "-i", "schema2.tar");
    await ok("save", "-o", "old.tar", "old:1");
    for (const transport of ["oci-archive", "docker-archive"]) {
      await skopeo(root, "copy", `${transport}:old.tar`, `oci:${transport}:x`);
      assert.deepEqual((await inspect(root, `oci:${transport}:x`)).diffIds, (await inspect(root, "oci:layout:two")).diffIds);
    }
  });
  test("makes the same bytes of the same images, to a file and to stdout", async () => {
    await ok("save", "-o", "again.tar", "tool:1.2", "named:3");
    assert((await readFile(file("again.tar"))).equals(await readFile(file("saved.tar"))));
    execFileSync("sh", ["-c", 'exec "$0" -- "$1" save tool:1.2 named:3 > piped.tar', process.execPath, BIN], {
      cwd: root,
      env: { PATH: process.env["PATH"] ?? "", HOME: root, KILN_HOME: file("home") },
    });
    assert((await readFile(file("piped.tar"))).equals(await readFile(file("saved.tar"))));
    const dates = execFileSync("tar", ["--full-time", "-tvf", file("saved.tar")], { encoding: "utf8", env: { ...process.env, TZ: "UTC" } });
    assert.deepEqual(new Set(dates.match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g)), new Set(["1970-01-01 00:00:00"]));
  });
  test("is loaded elsewhere as the same images under the same names", async () => {
    const loaded = await runAt("other", ["load", "-i", "saved.tar"]);
    assert.deepEqual([loaded.exitCode, loaded.stdout], [0, "Loaded image: tool:1.2\nLoaded image: named:3\n"], loaded.stderr);
    const there = JSON.parse((await runAt("other", ["images", "--json"])).stdout) as ImageView[];
    for (const image of there) assert.equal(image.digest, await digestOfImage(image.reference));
    assert.equal(there.length, 2);
  });
  test("by a digest has no name, as docker's", async () => {
    await ok("save", "-o", "digest.tar", (await digestOfImage("named:3")).slice(7, 25));
    assert.equal(
      (JSON.parse(execFileSync("tar", ["-xOf", file("digest.tar"), "manifest.json"], { encoding: "utf8" })) as { RepoTags: string[] }[])[0]
        ?.RepoTags.length,
      0,
    );
    assert.equal((await run("load", "-i", "digest.tar")).exitCode, 2);
  });
});

describe("an archive with both forms", () => {
  const members = "oci-layout index.json manifest.json blobs".split(" ");
  const unpack = async (name: string): Promise<void> => {
    await mkdir(file(name));
    execFileSync("tar", ["-C", file(name), "-xf", file("saved.tar")]);
  };
  const pack = (name: string): void => void execFileSync("tar", ["-C", file(name), "-cf", file(`${name}.tar`), ...members]);

  test("is read as docker's where the OCI index lacks blobs", async () => {
    await unpack("partial");
    const index = JSON.parse(await readFile(file("partial/index.json"), "utf8")) as { manifests: { digest: string }[] };
    for (const { digest } of index.manifests) await rm(file(`partial/blobs/sha256/${digest.slice(7)}`));
    pack("partial");
    assert.equal(await ok("load", "-i", "partial.tar"), "Loaded image: tool:1.2\nLoaded image: named:3\n");
    const [image] = await json<ImageDetails[]>("image", "inspect", "named:3");
    assert.deepEqual(
      image?.layerList.map((layer) => layer.diffId),
      (await inspect(root, "oci:layout:one")).diffIds,
    );
    assert.deepEqual(
      image?.layerList.map((layer) => layer.mediaType.endsWith("gzip")),
      [true, true],
      "its layers are packed, and were hashed",
    );
  });
});

describe("names", () => {
  test("a tag is a further name; rmi takes names and digests' beginnings, and images what it is asked for", async () => {
    assert.equal(await ok("tag", "tool:1.2", "registry.example/team/tool"), "registry.example/team/tool:latest\n");
    assert.equal(await ok("image", "tag", "tool:1.2", "tool:next"), "tool:next\n");
    assert.match((await run("tag", "tool:1.2", "oci:x")).stderr, /is not NAME/);
    assert.match((await run("tag", "nope", "x")).stderr, /there is no image nope/);
    const listed = async (...argv: string[]) =>
      (await ok("images", ...argv))
        .split("\n")
        .slice(1, -1)
        .map((line) => line.split(" ")[0] ?? "");
    assert.deepEqual((await listed("tool")).toSorted(), ["tool:1.2", "tool:next"]);
    assert.deepEqual(await listed("docker.io/library/tool:next"), ["tool:next"]);
    assert.deepEqual(await listed("registry.example/team/tool"), ["registry.example/team/tool:latest"]);
    assert.deepEqual(await listed("oci-archive:bare.tar:v2"), ["oci-archive:bare.tar:v2"]);
    assert.deepEqual(await listed("too"), []);
    assert.match(await ok("image", "ls", "--digests", "tool:next"), /sha256:[0-9a-f]{64}/);
    assert.match(await ok("image", "ls", "tool:next"), / [0-9a-f]{12} /);
    assert.equal(await ok("rmi", "tool:next"), "tool:next\n");
    assert.equal(await ok("image", "rm", "registry.example/team/tool"), "registry.example/team/tool\n");
    const digest = await digestOfImage("registry.example:5000/a/b");
    const before = await names();
    const short = digest.slice(7, 19);
    assert.equal(await ok("rmi", short), `${short}\n`);
    assert.equal((await names()).length, before.length - 1);
  });
});

describe("room", () => {
  test("df adds up, and prune gives it back once it has said so", async () => {
    const df = await json<DfReport>("df");
    assert.equal(
      df.items.reduce((sum, item) => sum + item.diskBytes, 0),
      df.total.diskBytes,
    );
    const summary = await ok("df");
    assert.match(summary, /^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +\d+ +0 /);
    assert.match(summary, /\nVMs .*\nKernels .*\nSnapshots .*\nOther /);
    assert.match(await ok("df", "-v"), /\nIMAGE +DIGEST +SIZE +SHARED +UNIQUE +VMS\n[\s\S]*\ntool:1\.2 /);
    const refused = await run("prune");
    assert.deepEqual([refused.exitCode, refused.stdout], [2, ""]);
    assert.match(refused.stderr, /no terminal\n {2}hint: .*--dry-run.*-f/);
    const before = await names();
    assert.match(await ok("prune", "-a", "--dry-run"), /^Images:\n[\s\S]* {2}tool:1\.2\n[\s\S]*Total reclaimable space: /);
    assert.deepEqual(await names(), before);
    assert.match(await ok("image", "prune", "-f"), /Total reclaimed space: /);
    assert.deepEqual(await names(), before);
    assert.match(await ok("prune", "-af"), /Total reclaimed space: /);
    assert.deepEqual(await names(), []);
  });
});
