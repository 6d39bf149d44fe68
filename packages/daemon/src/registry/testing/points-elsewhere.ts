/**
 * Tests of where a registry may point to, for a network of their own in which the loopback has addresses of all kinds.
 * Run by addresses.slow.test.ts with `node --test`.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";
import { createCertificates } from "../../../../../test/fixtures/certificates.ts";
import { loadRegistryConfig } from "../registry-config.ts";
import { createImage, FAST_LIMITS, Puller } from "./pulling.ts";
import { REPOSITORY } from "./scene.ts";
import { ScriptedRegistry } from "./scripted-registry.ts";

const IMAGE = createImage([randomBytes(3000)]);
const PASSWORD = { username: "anna", password: "secret-words" };
const REFUSED = "REGISTRY_REDIRECT_REFUSED";

/** Something that listens, and counts every byte that it is sent. */
const listen = async (address: string): Promise<AsyncDisposable & { readonly host: string; readonly heard: () => readonly number[] }> => {
  const heard: number[] = [];
  const server = createServer((socket) => {
    const at = heard.push(0) - 1;
    socket.on("data", (data) => (heard[at] = (heard[at] ?? 0) + data.length));
    socket.on("error", () => socket.destroy());
  });
  server.listen(0, address);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    host: `${address.includes(":") ? `[${address}]` : address}:${port}`,
    heard: () => heard,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, "close");
    },
  };
};

/** Pulls from a registry at an address whose blobs are where `location` says; the pull's error code, null for success. */
const pullPointed = async (
  at: string,
  location: (path: string) => string,
  puller: Puller,
): Promise<{ readonly code: string | null; readonly message: string }> => {
  await using registry = await ScriptedRegistry.start({ address: at });
  registry.serve(REPOSITORY, "v1", IMAGE);
  registry.script = ({ path }, honest) => (path.includes("/blobs/") ? { status: 307, headers: { location: location(path) } } : honest);
  return await outcome(puller.pull(`${registry.host}/${REPOSITORY}:v1`, { plainHttp: true }));
};

const outcome = async (pull: Promise<unknown>): Promise<{ readonly code: string | null; readonly message: string }> => {
  try {
    await pull;
    return { code: null, message: "" };
  } catch (error) {
    assert.ok(error instanceof Error && "code" in error && typeof error.code === "string");
    return { code: error.code, message: error.message };
  }
};

const PUBLIC = "8.8.4.4";
const OTHERS = ["127.0.0.1", "::1", "10.1.1.1", "100.64.0.1", "169.254.169.254", "169.254.1.1", "fd12::1"];

suite("a registry at a public address", () => {
  for (const scheme of ["http", "https"]) {
    for (const address of OTHERS) {
      test(`may not point to ${scheme} at ${address}, and nothing is sent there`, async () => {
        await using target = await listen(address);
        await using puller = await Puller.open();
        const { code, message } = await pullPointed(PUBLIC, (path) => `${scheme}://${target.host}${path}?key=hidden`, puller);
        assert.equal(code, REFUSED, message);
        assert.match(message, new RegExp(REPOSITORY));
        assert.doesNotMatch(message, /hidden/);
        assert.ok(target.heard().every((bytes) => bytes === 0));
        await puller.assertClean();
      });
    }
  }

  test("may not point to names that lead there, whatever they led to before", async () => {
    await using target = await listen("127.0.0.1");
    const port = target.host.split(":")[1] ?? "";
    let n = 0;
    // the name of the registry is public at first, and the loopback from then on
    const lookup: NonNullable<Parameters<typeof Puller.open>[0]>["lookup"] = (hostname, options, callback) => {
      n += 1;
      const address = hostname === "registry.example" && n === 1 ? PUBLIC : "127.0.0.1";
      if (options.all === true) callback(null, [{ address, family: 4 }]);
      else callback(null, address, 4);
    };
    for (const name of ["storage.example", "registry.example", "localhost"]) {
      n = 0;
      await using registry = await ScriptedRegistry.start({ address: PUBLIC });
      await using puller = await Puller.open({ lookup });
      registry.serve(REPOSITORY, "v1", IMAGE);
      registry.script = ({ path }, honest) =>
        path.includes("/blobs/") ? { status: 307, headers: { location: `http://${name}:${port}${path}` } } : honest;
      const { code, message } = await outcome(puller.pull(`registry.example:${registry.port}/${REPOSITORY}:v1`, { plainHttp: true }));
      assert.equal(code, REFUSED, message);
      assert.match(message, /loopback/);
    }
    assert.ok(target.heard().every((bytes) => bytes === 0));
  });

  test("stays one when its name leads to the loopback later", async () => {
    await using target = await listen("127.0.0.1");
    await using registry = await ScriptedRegistry.start({ address: "0.0.0.0" });
    registry.serve(REPOSITORY, "v1", IMAGE);
    const location = (path: string): string => `http://${target.host}${path}`;
    // each request has a connection of its own
    const headers = { "content-type": MEDIA_TYPES.manifest, connection: "close" };
    registry.script = ({ path }, honest) =>
      path.includes("/blobs/") ? { status: 307, headers: { location: location(path) } } : { ...honest, headers };
    let n = 0;
    await using puller = await Puller.open({
      lookup: (_name, { all }, callback) => {
        n += 1;
        const address = n === 1 ? PUBLIC : "127.0.0.1";
        if (all === true) callback(null, [{ address, family: 4 }]);
        else callback(null, address, 4);
      },
    });
    const { code, message } = await outcome(puller.pull(`registry.example:${registry.port}/${REPOSITORY}:v1`, { plainHttp: true }));
    assert.equal(code, REFUSED, message);
    assert.ok(n > 1);
    assert.ok(target.heard().every((bytes) => bytes === 0));
  });

  test("may not point there by way of another public address", async () => {
    await using target = await listen("127.0.0.1");
    await using between = await ScriptedRegistry.start({ address: "8.8.8.8" });
    between.script = ({ path }) => ({ status: 302, headers: { location: `http://${target.host}${path}` } });
    await using puller = await Puller.open();
    assert.equal((await pullPointed(PUBLIC, (path) => `${between.url}${path}`, puller)).code, REFUSED);
    assert.ok(between.asked.length > 0);
    assert.ok(target.heard().every((bytes) => bytes === 0));
  });

  for (const address of ["8.8.8.8", "2001:4860::8888"]) {
    test(`may point to ${address}`, async () => {
      await using storage = await ScriptedRegistry.start({ address });
      storage.serve(REPOSITORY, "v1", IMAGE);
      await using puller = await Puller.open();
      assert.deepEqual(await pullPointed(PUBLIC, (path) => `${storage.url}${path}`, puller), { code: null, message: "" });
    });
  }

  for (const address of ["10.1.1.1", "127.0.0.1", "169.254.169.254"]) {
    test(`wants a login at ${address}: nothing is sent there`, async () => {
      await using target = await listen(address);
      await using registry = await ScriptedRegistry.start({ address: PUBLIC });
      registry.script = () => ({ status: 401, headers: { "www-authenticate": `Bearer realm="https://${target.host}/token"` } });
      await using puller = await Puller.open();
      const options = { plainHttp: true, credentials: { [registry.host]: PASSWORD } };
      assert.equal((await outcome(puller.pull(`${registry.host}/${REPOSITORY}:v1`, options))).code, REFUSED);
      assert.ok(target.heard().every((bytes) => bytes === 0));
    });
  }

  test("is not spoken to without TLS unless somebody says so", async () => {
    await using registry = await ScriptedRegistry.start({ address: PUBLIC });
    registry.serve(REPOSITORY, "v1", IMAGE);
    await using puller = await Puller.open();
    const { code, message } = await outcome(puller.pull(`${registry.host}/${REPOSITORY}:v1`));
    assert.equal(code, "REGISTRY_UNREACHABLE");
    assert.match(message, /does not speak TLS/);
    assert.deepEqual(registry.asked, []);
  });
});

suite("registries of a neighbourhood", () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ["10.1.1.1", "10.1.1.2", true],
    ["10.1.1.1", "fd12::1", true],
    ["10.1.1.1", "127.0.0.1", false],
    ["10.1.1.1", "100.64.0.1", false],
    ["10.1.1.1", "169.254.169.254", false],
    ["100.64.0.1", "100.64.0.1", true],
    ["100.64.0.1", "10.1.1.1", false],
    ["127.0.0.1", "::1", true],
    ["127.0.0.1", "10.1.1.1", false],
    ["169.254.1.1", "169.254.1.1", false],
    ["169.254.1.1", "169.254.169.254", false],
    ["127.0.0.1", "8.8.8.8", true],
  ];
  for (const [from, to, isAllowed] of cases) {
    test(`${from} ${isAllowed ? "may" : "may not"} point to ${to}`, async () => {
      await using storage = await ScriptedRegistry.start({ address: to });
      storage.serve(REPOSITORY, "v1", IMAGE);
      await using puller = await Puller.open();
      const { code, message } = await pullPointed(from, (path) => `${storage.url}${path}`, puller);
      assert.equal(code, isAllowed ? null : REFUSED, message);
      assert.equal(storage.asked.length > 0, isAllowed);
    });
  }
});

suite("a registry that never answers a SYN", () => {
  const reference = `192.168.77.7:5000/${REPOSITORY}:v1`;
  const connecting = (): number => process.getActiveResourcesInfo().filter((name) => name.endsWith("ConnectWrap")).length;

  test("is given up in time", async () => {
    await using puller = await Puller.open({ limits: { ...FAST_LIMITS, connectMs: 200, documentMs: 30_000, attempts: 1 } });
    const { code, message } = await outcome(puller.pull(reference));
    assert.equal(code, "REGISTRY_UNREACHABLE");
    assert.match(message, /does not answer/);
  });

  test("keeps neither a caller that leaves nor a daemon that ends", async () => {
    await using puller = await Puller.open({ limits: { ...FAST_LIMITS, connectMs: 60_000 } });
    const abort = new AbortController();
    const pulling = outcome(puller.pull(reference, { signal: abort.signal }));
    while (connecting() === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    abort.abort(new KilnError("CANCELLED", "left"));
    assert.equal((await pulling).code, "CANCELLED");
    await puller.source[Symbol.asyncDispose]();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(connecting(), 0);
  });
});

test("a name of the loopback without a port is asked at 80 without TLS, at 443 with it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln ports "));
  try {
    const { certificateFile, keyFile, caFile } = await createCertificates(directory, { signal: AbortSignal.timeout(30_000) });
    const file = join(directory, "registries.toml");
    await writeFile(file, `[registry.localhost]\nca = ${JSON.stringify(caFile)}\n`);
    await using puller = await Puller.open({ config: loadRegistryConfig([file], { certificateDirs: [] }) });
    {
      await using plain = await ScriptedRegistry.start({ port: 80 });
      plain.serve(REPOSITORY, "v1", IMAGE);
      await puller.resolve(`127.0.0.1/${REPOSITORY}:v1`);
    }
    await using secure = await ScriptedRegistry.start({
      port: 443,
      tls: { cert: await readFile(certificateFile), key: await readFile(keyFile) },
    });
    secure.serve(REPOSITORY, "v1", IMAGE);
    await puller.resolve(`localhost/${REPOSITORY}:v1`);
    assert.equal(secure.asked.length, 1);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a name of the loopback that leads elsewhere is not spoken to", async () => {
  await using target = await listen("10.1.1.1");
  await using puller = await Puller.open({
    lookup: (_name, { all }, callback) =>
      all === true ? callback(null, [{ address: "10.1.1.1", family: 4 }]) : callback(null, "10.1.1.1", 4),
  });
  const { code, message } = await outcome(puller.pull(`localhost:${target.host.split(":")[1]}/${REPOSITORY}:v1`));
  assert.equal(code, "REGISTRY_UNREACHABLE");
  assert.match(message, /localhost is at a private address/);
  assert.ok(target.heard().every((bytes) => bytes === 0));
});

test("a host that registries.toml lists may be anywhere but at metadata", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln registries "));
  try {
    for (const [address, isAllowed] of [
      ["10.1.1.1", true],
      ["127.0.0.1", true],
      ["169.254.169.254", false],
    ] as const) {
      await using storage = await ScriptedRegistry.start({ address });
      storage.serve(REPOSITORY, "v1", IMAGE);
      await using registry = await ScriptedRegistry.start({ address: PUBLIC });
      registry.serve(REPOSITORY, "v1", IMAGE);
      registry.script = ({ path }, honest) =>
        path.includes("/blobs/") ? { status: 307, headers: { location: `${storage.url}${path}` } } : honest;
      const file = join(directory, "registries.toml");
      await writeFile(file, `[registry."${registry.host}"]\nplain-http = true\nredirects = ["${storage.host}"]\n`);
      await using puller = await Puller.open({ config: loadRegistryConfig([file], { certificateDirs: [] }) });
      const { code, message } = await outcome(puller.pull(`${registry.host}/${REPOSITORY}:v1`));
      assert.equal(code, isAllowed ? null : REFUSED, message);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
