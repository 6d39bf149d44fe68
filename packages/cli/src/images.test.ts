import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { REGISTRY_AUTH_HEADER, type OperationPart } from "@kiln/protocol";
import { aVm, anImage, anOperation, StubDaemon } from "@kiln/sdk/testing";
import { digestOf, ImageBlobs, writeLayout } from "./testing/image-files.ts";
import { kiln } from "./testing/kiln-process.ts";
import { hasScript, onTerminal } from "./testing/terminal.ts";

const REFERENCE = "registry.example:5000/team/tool:1";
const image = anImage({ reference: REFERENCE });

const bodyOf = (stub: StubDaemon, path: string): Record<string, unknown> =>
  JSON.parse(stub.calls("POST", path).at(-1)?.body.toString() ?? "null") as Record<string, unknown>;

const credentialsIn = (stub: StubDaemon, path: string): unknown => {
  const header = stub.calls("POST", path).at(-1)?.headers[REGISTRY_AUTH_HEADER];
  return header === undefined ? null : JSON.parse(Buffer.from(String(header), "base64url").toString());
};

/** A daemon with one image, of which a pull and a create succeed. */
const withImage = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  stub.on("GET", "/v1/images", () => ({ json: [image] }));
  stub.on("GET", /^\/v1\/images\/(.+)$/, ({ groups: [name = ""] }) =>
    name === REFERENCE ? { json: image } : { problem: "IMAGE_NOT_FOUND", detail: `there is no image ${name}` },
  );
  stub.on("POST", "/v1/images/pull", () => ({ json: anOperation({ kind: "image.ensure", result: image.digest }), status: 202 }));
  stub.on("POST", "/v1/vms", () => ({ json: anOperation({ result: "0123456789ab" }), status: 202 }));
  stub.on("GET", "/v1/vms/0123456789ab", () => ({ json: aVm() }));
  return stub;
};

describe("pull", () => {
  test("says the name, the digest, and what happened; -q only the name", async () => {
    await using stub = await withImage();
    const { home } = stub;
    assert.equal((await kiln(["pull", REFERENCE], { home })).stdout, `${REFERENCE}\n  ${image.digest}\n  up to date\n`);
    const other = anImage({ reference: "docker.io/library/alpine:latest", digest: digestOf("new") });
    let isThere = false;
    stub.on("GET", "/v1/images", () => ({ json: isThere ? [other] : [] }));
    stub.on("POST", "/v1/images/pull", () => {
      isThere = true;
      return { json: anOperation({ result: other.digest }), status: 202 };
    });
    assert.equal((await kiln(["pull", "alpine"], { home })).stdout, `alpine:latest\n  ${other.digest}\n  downloaded\n`);
    assert.equal((await kiln(["image", "pull", "-q", "alpine"], { home })).stdout, "docker.io/library/alpine:latest\n");
  });
  test("hands the platform and plain HTTP on", async () => {
    await using stub = await withImage();
    assert.equal((await kiln(["pull", "--platform", "aarch64", "--plain-http", REFERENCE], { home: stub.home })).exitCode, 0);
    assert.deepEqual(bodyOf(stub, "/v1/images/pull"), { reference: REFERENCE, pull: "always", platform: "linux/arm64", plainHttp: true });
    for (const platform of ["", "Linux/amd64", "a/b/c/d", "linux/"]) {
      const { exitCode, stderr } = await kiln(["pull", "--platform", platform, REFERENCE], { home: stub.home });
      assert.deepEqual([exitCode, /not a platform/.test(stderr)], [2, true], platform);
    }
  });
  test("--no-wait prints the operations and is gone", async () => {
    await using stub = await withImage();
    const running = anOperation({ id: "op_00000000000000aa", state: "running", joined: "op_00000000000000bb" });
    stub.on("POST", "/v1/images/pull", () => ({ json: running, status: 202 }));
    const { home } = stub;
    assert.equal((await kiln(["pull", "--no-wait", REFERENCE, "alpine"], { home })).stdout, `${running.id}\n${running.id}\n`);
    assert.deepEqual(JSON.parse((await kiln(["pull", "--no-wait", "--json", REFERENCE], { home })).stdout), {
      operation: running.id,
      joined: running.joined,
    });
    assert.equal((await kiln(["pull", "--no-wait", "oci:x"], { home })).exitCode, 2);
    assert.equal(stub.requests.filter((request) => request.path.startsWith("/v1/operations")).length, 0);
  });
  test("of text that is no reference reaches no daemon's pull", async () => {
    await using stub = await withImage();
    const { exitCode, stderr } = await kiln(["pull", "--json", "https://x/y"], { home: stub.home });
    assert.deepEqual([exitCode, (JSON.parse(stderr) as { code: string }).code], [1, "REFERENCE_INVALID"]);
    assert.equal(stub.calls("POST", "/v1/images/pull").length, 0);
  });
});

describe("run and create", () => {
  test("hand the platform, plain HTTP and the pull on, and --no-wait prints the operation", async () => {
    await using stub = await withImage();
    const { home } = stub;
    const argv = ["create", "--platform", "linux/arm64", "--plain-http", "--pull", "always", "--no-wait", "--json", REFERENCE];
    assert.deepEqual(JSON.parse((await kiln(argv, { home })).stdout), { operation: anOperation().id, joined: null });
    const { platform, plainHttp, pull } = bodyOf(stub, "/v1/vms");
    assert.deepEqual([platform, plainHttp, pull], ["linux/arm64", true, "always"]);
    assert.equal((await kiln(["run", "-d", "--no-wait", REFERENCE], { home })).stdout, `${anOperation().id}\n`);
    assert.equal(bodyOf(stub, "/v1/vms")["start"], true);
    assert.equal((await kiln(["run", "--no-wait", REFERENCE], { home })).exitCode, 2);
  });
  test("open an archive here, send what is missing, and create from it without a pull", async () => {
    await using stub = await withImage();
    await writeLayout(join(stub.home, "layout"), [{ tag: "v1", layers: ["x"] }]);
    const sent: string[] = [];
    stub.on("PUT", /^\/v1\/content\/(.+)$/, ({ groups: [digest = ""] }) => (sent.push(digest), { json: {}, status: 201 }));
    stub.on("POST", "/v1/images/import", ({ body }) => {
      const { root, reference } = JSON.parse(body.toString()) as { root: string; reference: string };
      return {
        json: sent.includes(root)
          ? { missing: [], image: anImage({ reference }) }
          : { missing: [{ digest: root, size: null }], image: null },
      };
    });
    const run = await kiln(["create", "--platform", "amd64", "oci:layout:v1"], { home: stub.home, cwd: stub.home });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.deepEqual(sent, [digestOf(await readFile(join(stub.home, "layout/index.json")))]);
    assert.deepEqual(bodyOf(stub, "/v1/images/import"), { reference: "oci:layout:v1", root: sent[0], tag: "v1", platform: "linux/amd64" });
    const { image: name, pull } = bodyOf(stub, "/v1/vms");
    assert.deepEqual([name, pull], ["oci:layout:v1", "never"]);
  });
});

describe("credentials", () => {
  const auths = { "registry.example:5000": { auth: Buffer.from("ann:secret").toString("base64") }, other: { auth: "eDp5" } };
  const expected = { "registry.example:5000": { username: "ann", password: "secret" } };
  const writeAuth = async (stub: StubDaemon, content: unknown): Promise<void> => {
    await mkdir(join(stub.home, ".docker"), { recursive: true });
    await writeFile(join(stub.home, ".docker/config.json"), typeof content === "string" ? content : JSON.stringify(content));
  };

  test("for the image's registry alone go along with pull, run and create, beside the request", async () => {
    await using stub = await withImage();
    await writeAuth(stub, { auths });
    const { home } = stub;
    await kiln(["pull", REFERENCE], { home });
    assert.deepEqual(credentialsIn(stub, "/v1/images/pull"), expected);
    await kiln(["create", REFERENCE], { home });
    assert.deepEqual(credentialsIn(stub, "/v1/vms"), expected);
    assert(!stub.requests.some((request) => request.body.includes("secret")));
    for (const name of ["alpine", "deb:busybox-static"]) {
      await kiln(["pull", name], { home });
      assert.equal(credentialsIn(stub, "/v1/images/pull"), null, name);
    }
    await kiln(["create", "--pull", "never", REFERENCE], { home });
    assert.equal(credentialsIn(stub, "/v1/vms"), null);
  });
  test("a helper is asked for what has to be fetched only", async () => {
    await using stub = await withImage();
    await writeAuth(stub, { credsStore: "test" });
    const bin = join(stub.home, "bin");
    await mkdir(bin);
    const script = `#!/bin/sh\ncat >> "$HOME/asked"\necho '{"Username":"<token>","Secret":"t"}'\n`;
    await writeFile(join(bin, "docker-credential-test"), script, { mode: 0o755 });
    const options = { home: stub.home, env: { PATH: `${bin}:${process.env["PATH"] ?? ""}` } };
    await kiln(["create", REFERENCE], options);
    assert.equal(credentialsIn(stub, "/v1/vms"), null, "it is there");
    await kiln(["create", "--pull", "always", REFERENCE], options);
    assert.deepEqual(credentialsIn(stub, "/v1/vms"), { "registry.example:5000": { identityToken: "t" } });
    await kiln(["create", "--platform", "linux/arm64", REFERENCE], options);
    assert.deepEqual(credentialsIn(stub, "/v1/vms"), { "registry.example:5000": { identityToken: "t" } }, "not for this platform");
    await kiln(["create", "alpine"], options);
    assert.deepEqual(credentialsIn(stub, "/v1/vms"), { "docker.io": { identityToken: "t" } });
    assert.equal(
      await readFile(join(stub.home, "asked"), "utf8"),
      "registry.example:5000\nregistry.example:5000\nhttps://index.docker.io/v1/\n",
    );
  });
  test("a file that does not parse is named, and ends the command before it pulls", async () => {
    await using stub = await withImage();
    await writeAuth(stub, `{"auths": "secret`);
    const { exitCode, stderr } = await kiln(["run", REFERENCE], { home: stub.home });
    assert.equal(exitCode, 125);
    assert.match(stderr, /config\.json: it is not JSON\n {2}hint: /);
    assert(!stderr.includes("secret"));
    assert.equal(stub.calls("POST", "/v1/vms").length, 0);
  });
});

describe("save", () => {
  /** A daemon with an image whose layer never comes to its end. */
  const withHangingLayer = async (onHang: () => void = () => undefined): Promise<StubDaemon> => {
    const stub = await StubDaemon.listen();
    const made = new ImageBlobs();
    const manifest = made.image({ tag: null, layers: [randomBytes(3 * 2 ** 20).toString("hex")] });
    stub.on("GET", /^\/v1\/images\/(.+)$/, () => ({ json: { ...anImage(), reference: "docker.io/library/x:1", digest: manifest.digest } }));
    stub.on("GET", /^\/v1\/content\/(.+)$/, ({ groups: [digest = ""] }) => {
      const bytes = made.blobs.get(digest) ?? Buffer.alloc(0);
      if (bytes.length < 2 ** 20) return { bytes };
      onHang();
      return "hang";
    });
    return stub;
  };
  test("an interrupted one leaves nothing, and what was there stays", async () => {
    const hanging = Promise.withResolvers<void>();
    await using stub = await withHangingLayer(hanging.resolve);
    const directory = join(stub.home, "out");
    await mkdir(directory);
    await writeFile(join(directory, "x.tar"), "before");
    const run = await kiln(["save", "-o", "x.tar", "x:1"], {
      home: stub.home,
      cwd: directory,
      during: (child) => void hanging.promise.then(() => child.kill("SIGINT")),
    });
    assert.equal(run.exitCode, 130, run.stderr);
    assert.deepEqual(await readdir(directory), ["x.tar"]);
    assert.equal(await readFile(join(directory, "x.tar"), "utf8"), "before");
  });
  test("of blobs that are not what they are called is an error, and leaves nothing", async () => {
    await using stub = await withHangingLayer();
    stub.on("GET", /^\/v1\/content\//, () => ({ bytes: Buffer.from("{}") }));
    const run = await kiln(["save", "-o", "x.tar", "--json", "x:1"], { home: stub.home, cwd: stub.home });
    assert.equal((JSON.parse(run.stderr) as { code: string }).code, "CONTENT_DIGEST_MISMATCH");
    assert.deepEqual(
      (await readdir(stub.home)).filter((name) => name !== "kiln.sock"),
      [],
    );
  });
  const bad: readonly [string, RegExp][] = [
    ["/dev/null", /is no file/],
    [".", /is a directory/],
    ["gone/x.tar", /there is no directory gone/],
    ["kiln.sock", /is no file/],
  ];
  for (const [output, words] of bad) {
    test(`to ${output} is a usage error`, async () => {
      await using stub = await withHangingLayer();
      const { exitCode, stderr } = await kiln(["save", "-o", output, "x:1"], { home: stub.home, cwd: stub.home });
      assert.deepEqual([exitCode, words.test(stderr), stub.requests.length], [2, true, 0], stderr);
    });
  }
});

describe("lists", () => {
  test("names are as people write them, JSON has them written out", async () => {
    await using stub = await StubDaemon.listen();
    const all = [
      anImage({ reference: "docker.io/library/alpine:3" }),
      anImage({ reference: "docker.io/team/x:1" }),
      anImage({ reference: "localhost/alpine:3" }),
    ];
    stub.on("GET", "/v1/images", () => ({ json: all }));
    stub.on("GET", "/v1/vms", () => ({ json: [aVm({ image: "docker.io/library/alpine:3" })] }));
    const { home } = stub;
    const first = async (...argv: string[]) =>
      (await kiln(argv, { home })).stdout
        .split("\n")
        .slice(1, -1)
        .map((line) => line.split(/ +/)[0]);
    assert.deepEqual(await first("images"), ["alpine:3", "team/x:1", "localhost/alpine:3"]);
    assert.deepEqual(await first("images", "alpine"), ["alpine:3"]);
    assert.deepEqual(await first("images", "111111111111"), ["alpine:3", "team/x:1", "localhost/alpine:3"]);
    assert.deepEqual(JSON.parse((await kiln(["images", "--json", "alpine"], { home })).stdout), [all[0]]);
    assert.match((await kiln(["ps"], { home })).stdout, /\n0123456789ab +alpine:3 /);
  });
});

test("a pull on a terminal has a line for each layer while it runs, and none at the end", { skip: !hasScript }, async () => {
  await using stub = await withImage();
  const part = (name: string, state: OperationPart["state"], done: number): OperationPart => ({
    name: digestOf(name),
    state,
    done,
    total: 2 ** 20,
  });
  const parts = [part("a", "present", 2 ** 20), part("b", "done", 2 ** 20), part("c", "active", 2 ** 19), part("d", "waiting", 0)];
  const running = anOperation({
    state: "running",
    subject: REFERENCE,
    phase: "fetch layers",
    progress: { done: 5, total: 8, unit: "bytes" },
    parts,
  });
  stub.on("POST", "/v1/images/pull", () => ({ json: running, status: 202 }));
  stub.on("GET", `/v1/operations/${running.id}/watch`, async () => {
    await new Promise((resolve) => setTimeout(resolve, 600));
    return { bytes: Buffer.from(`${JSON.stringify(anOperation({ result: image.digest }))}\n`) };
  });
  const { exitCode, screen } = await onTerminal(["pull", REFERENCE], { home: stub.home });
  assert.equal(exitCode, 0, screen);
  for (const line of ["there already", "done", "[############------------]  512 KiB / 1 MiB", "waiting"])
    assert(screen.includes(line), line);
  const small = await onTerminal(["pull", REFERENCE], { home: stub.home, rows: 4 });
  assert(small.screen.includes("2 of 4 layers are there") && !small.screen.includes("waiting"), small.screen);
  const quiet = await onTerminal(["pull", "-q", REFERENCE], { home: stub.home });
  assert.equal(quiet.screen, `${REFERENCE}\r\n`);
});

test("a terminal is neither read as an archive nor written one", { skip: !hasScript }, async () => {
  await using stub = await withImage();
  for (const argv of [["load"], ["save", REFERENCE]]) {
    const { exitCode, screen } = await onTerminal(argv, { home: stub.home });
    assert.deepEqual([exitCode, stub.requests.length], [2, 0], screen);
    assert.match(screen, /is a terminal[\s\S]*hint: name a file/);
  }
});
