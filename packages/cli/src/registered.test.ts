import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { imageExecution } from "@kiln/protocol";
import { anImage, anOperation, StubDaemon } from "@kiln/sdk/testing";
import { digestOf } from "./testing/image-files.ts";
import { kiln } from "./testing/kiln-process.ts";
import { hasScript, onTerminal } from "./testing/terminal.ts";

const CONTENT = randomBytes(3_000_000);
const ROOTFS = digestOf(CONTENT);
const image = anImage({ reference: "docker.io/library/mine:1" });
const MANIFEST = {
  ...{ formatVersion: 1, reference: image.reference, platform: image.platform, config: imageExecution.parse({ cmd: ["sh"] }) },
  ...{ rootfs: { digest: ROOTFS, sizeBytes: CONTENT.length }, kernel: "debian-cloud", createdBy: "kiln 0" },
};

const bodyOf = (stub: StubDaemon): unknown => JSON.parse(stub.calls("POST", "/v1/images/register").at(-1)?.body.toString() ?? "null");

const listen = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  await writeFile(join(stub.home, "file"), CONTENT);
  stub.on("POST", "/v1/content", () => ({ json: { digest: ROOTFS, sizeBytes: CONTENT.length }, status: 201 }));
  stub.on("POST", "/v1/bundles", () => ({ json: MANIFEST, status: 201 }));
  const operation = anOperation({ kind: "image.register", subject: image.reference, result: image.digest });
  stub.on("POST", "/v1/images/register", () => ({ json: operation, status: 202 }));
  stub.on("GET", /^\/v1\/images\/(.+)$/, () => ({ json: image }));
  stub.on("POST", "/v1/images/pull", () => ({ json: anOperation({ kind: "image.ensure" }), status: 202 }));
  return stub;
};

describe("image register", () => {
  test("sends the file and says how it runs; prints the name and the digest", async () => {
    await using stub = await listen();
    const { home } = stub;
    const options = ["--cmd", '["tool", "-x"]', "-e", "A=b", "-w", "/srv", "-u", "1", "-l", "k=v", "--replace"];
    const { stdout } = await kiln(["image", "register", "file", "--name", "mine:1", ...options], { home, cwd: home });
    assert.equal(stdout, `mine:1\n  ${image.digest}\n`);
    const [sent] = stub.calls("POST", "/v1/content");
    assert.ok(sent?.body.equals(CONTENT));
    assert.deepEqual(bodyOf(stub), {
      ...{ name: image.reference, replace: true, platform: null, rootfs: ROOTFS },
      config: { cmd: ["tool", "-x"], entrypoint: [], labels: { k: "v" }, env: ["A=b"], workingDir: "/srv", user: "1" },
    });
    const json = await kiln(["image", "register", "file", "--name", "mine:1", "--json"], { home, cwd: home });
    assert.deepEqual(JSON.parse(json.stdout), image);
    const quiet = await kiln(["image", "register", "-q", "file", "--name", "mine:1"], { home, cwd: home });
    assert.equal(quiet.stdout, `${image.digest}\n`);
    const begun = await kiln(["image", "register", "--no-wait", "file", "--name", "mine:1"], { home, cwd: home });
    assert.equal(begun.stdout, `${anOperation().id}\n`);
  });

  test("sends the file again where a daemon has lost it, and no more than once", async () => {
    await using stub = await listen();
    const { home } = stub;
    stub.on("POST", "/v1/images/register", () => ({ problem: "IMAGE_CONTENT_MISSING", detail: "it is not there" }));
    const { exitCode, stderr } = await kiln(["image", "register", "file", "--name", "mine:1", "--json"], { home, cwd: home });
    assert.deepEqual([exitCode, (JSON.parse(stderr) as { code: string }).code], [1, "IMAGE_CONTENT_MISSING"]);
    assert.equal(stub.calls("POST", "/v1/content").length, 2);
  });

  test("asks no daemon about what is no file, or has no name", async () => {
    await using stub = await listen();
    const { home } = stub;
    const cases: readonly (readonly [string[], string])[] = [
      [["nothing", "--name", "x"], "IMAGE_SOURCE_MISSING"],
      [[".", "--name", "x"], "IMAGE_SOURCE_MISSING"],
      [["file", "--name", "x@sha256:0"], "REFERENCE_INVALID"],
      [["file"], "USAGE"],
      [["file", "file", "--name", "x"], "USAGE"],
      [["file", "--name", "x", "--cmd", "[1]"], "USAGE"],
    ];
    for (const [argv, code] of cases) {
      const { stderr } = await kiln(["image", "register", "--json", ...argv], { home, cwd: home });
      assert.equal((JSON.parse(stderr) as { code: string }).code, code, argv.join(" "));
    }
    assert.equal(stub.requests.length, 0);
  });
});

describe("image import", () => {
  test("sends the bundle, then registers what it says, under its name or another", async () => {
    await using stub = await listen();
    const { home } = stub;
    const { stdout } = await kiln(["image", "import", "file"], { home, cwd: home });
    assert.equal(stdout, `mine:1\n  ${image.digest}\n`);
    assert.ok(stub.calls("POST", "/v1/bundles")[0]?.body.equals(CONTENT));
    const { reference, platform, config } = MANIFEST;
    assert.deepEqual(bodyOf(stub), { name: reference, replace: false, platform, config, rootfs: ROOTFS });
    await kiln(["image", "import", "file", "--name", "other:2", "--replace"], { home, cwd: home });
    assert.deepEqual(bodyOf(stub), { name: "docker.io/library/other:2", replace: true, platform, config, rootfs: ROOTFS });
  });

  test("passes on what the daemon finds wrong, and registers nothing", async () => {
    await using stub = await listen();
    stub.on("POST", "/v1/bundles", () => ({ problem: "BUNDLE_INVALID", detail: "this is no bundle: it is cut off" }));
    const { exitCode, stderr } = await kiln(["image", "import", "file"], { home: stub.home, cwd: stub.home });
    assert.deepEqual([exitCode, /cut off[^]*kiln image export/.test(stderr)], [1, true]);
    assert.equal(stub.calls("POST", "/v1/images/register").length, 0);
  });
});

describe("image export", () => {
  test("builds what has to be built, then writes the bundle to a file or to stdout", async () => {
    await using stub = await listen();
    const { home } = stub;
    stub.on("GET", /^\/v1\/bundles\/(.+)$/, ({ groups: [name] }) => ({ bytes: Buffer.from(`bundle of ${name}`) }));
    const json = await kiln(["image", "export", "-o", "out", "mine:1", "--json"], { home, cwd: home });
    const text = `bundle of ${image.reference}`;
    assert.deepEqual(JSON.parse(json.stdout), { output: join(home, "out"), sizeBytes: text.length, image: image.reference });
    assert.equal(await readFile(join(home, "out"), "utf8"), text);
    assert.equal((await kiln(["image", "export", "mine:1"], { home, cwd: home })).stdout, text);
    const [asked] = stub.calls("POST", "/v1/images/pull");
    assert.equal((JSON.parse(asked?.body.toString() ?? "") as { pull: string }).pull, "missing");
  });

  test("leaves no file where it breaks off", async () => {
    await using stub = await listen();
    const { home } = stub;
    const before = await readdir(home);
    stub.on("GET", /^\/v1\/bundles\//, () => ({ bytes: Buffer.alloc(100_000), thenBreak: true }));
    assert.notEqual((await kiln(["image", "export", "-o", "out", "mine:1"], { home, cwd: home })).exitCode, 0);
    assert.deepEqual(await readdir(home), before);
  });

  test("of an image that is not there says so, and pulls none", async () => {
    await using stub = await listen();
    stub.on("GET", /^\/v1\/images\/(.+)$/, () => ({ problem: "IMAGE_NOT_FOUND", detail: "there is no image mine:1" }));
    const { stderr } = await kiln(["image", "export", "mine:1", "--json"], { home: stub.home, cwd: stub.home });
    assert.equal((JSON.parse(stderr) as { code: string }).code, "IMAGE_NOT_FOUND");
    assert.equal(stub.calls("POST", "/v1/images/pull").length, 0);
  });

  test("writes nothing to a terminal", { skip: !hasScript }, async () => {
    await using stub = await listen();
    const run = await onTerminal(["image", "export", "mine:1"], { home: stub.home });
    assert.match(run.screen, /which is a terminal/);
    assert.equal(stub.requests.length, 0);
  });
});
