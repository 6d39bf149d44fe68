import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { runTool } from "@kiln/std/node";
import { type Certificates, createCertificates } from "../../../../test/fixtures/certificates.ts";
import { loadRegistryConfig } from "./registry-config.ts";
import { forward, listen } from "./testing/listener.ts";
import { createImage, Puller } from "./testing/pulling.ts";
import { isBlob, REPOSITORY } from "./testing/scene.ts";
import { ScriptedRegistry, type ScriptedOptions } from "./testing/scripted-registry.ts";

const IMAGE = createImage([randomBytes(3000)]);

suite("TLS", () => {
  let directory = "";
  let certificates: Certificates;
  let tls: NonNullable<ScriptedOptions["tls"]>;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kiln tls "));
    certificates = await createCertificates(directory, { signal: AbortSignal.timeout(30_000) });
    tls = { cert: await readFile(certificates.certificateFile), key: await readFile(certificates.keyFile) };
  });
  after(() => rm(directory, { recursive: true }));

  /** Who pulls with these settings of the registry. */
  const openPuller = async (host: string, settings: string, certificateDirs: readonly string[] = []): Promise<Puller> => {
    const file = join(directory, `${randomBytes(4).toString("hex")}.toml`);
    await writeFile(file, `[registry."${host}"]\n${settings}\n`);
    return Puller.open({ config: loadRegistryConfig([file], { certificateDirs }) });
  };
  /** A certificate and its key by the same CA, as NAME.pem and NAME.key. */
  const issue = async (name: string, extension: string): Promise<void> => {
    const at = (file: string): string => join(directory, file);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", at(`${name}.key`)];
    const signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-addext", "basicConstraints=critical,CA:FALSE", "-addext", extension];
    const args = ["req", "-x509", "-subj", `/CN=${name}`, ...key, ...signed, "-out", at(`${name}.pem`)];
    await runTool("openssl", args, { signal: AbortSignal.timeout(30_000) });
  };
  const startSecure = async (options: ScriptedOptions = {}): Promise<ScriptedRegistry> => {
    const registry = await ScriptedRegistry.start({ tls, ...options });
    registry.serve(REPOSITORY, "v1", IMAGE);
    return registry;
  };
  const nameOf = (registry: ScriptedRegistry, host = registry.host): string => `${host}/${REPOSITORY}:v1`;

  test("a registry whose CA is in registries.toml is trusted, by address and by name", async () => {
    await using registry = await startSecure();
    for (const host of [registry.host, `localhost:${registry.port}`]) {
      await using puller = await openPuller(host, `ca = "ca.pem"`);
      await puller.pull(nameOf(registry, host));
    }
  });

  test("one whose CA docker or podman know is trusted", async () => {
    await using registry = await startSecure();
    const certificateDirs = [join(directory, "nowhere"), join(directory, "podman")];
    await mkdir(join(directory, "podman", registry.host), { recursive: true });
    await copyFile(certificates.caFile, join(directory, "podman", registry.host, "ours.crt"));
    await using puller = await openPuller(registry.host, "", certificateDirs);
    await puller.pull(nameOf(registry));
  });

  test("one that nobody vouches for is not, says how to, and is never asked without TLS", async () => {
    await using registry = await startSecure();
    await using puller = await openPuller(registry.host, "");
    await assert.rejects(puller.pull(nameOf(registry)), {
      code: "REGISTRY_UNREACHABLE",
      message: /cannot be trusted/,
      hint: /`ca` in registries.toml/,
    });
    await using other = await openPuller(`127.0.0.2:${registry.port}`, `ca = "ca.pem"`);
    await using elsewhere = await startSecure({ address: "127.0.0.2" });
    await assert.rejects(other.pull(nameOf(elsewhere)), { code: "REGISTRY_UNREACHABLE" });
    assert.deepEqual([...registry.asked, ...elsewhere.asked], []);
  });

  test("on the loopback plain HTTP is tried first, TLS is found out, and from then on a question costs one request", async () => {
    await using registry = await startSecure();
    await using puller = await openPuller(registry.host, `ca = "ca.pem"`);
    assert.equal(await puller.resolve(nameOf(registry)), IMAGE.digest);
    registry.asked = [];
    await puller.resolve(nameOf(registry));
    assert.equal(registry.asked.length, 1);
  });

  for (const words of [
    "Client sent an HTTP request to an HTTPS server.\n",
    "<html>The plain HTTP request was sent to HTTPS port</html>",
    "You're speaking plain HTTP to an SSL-enabled server port.",
  ]) {
    test(`a server that says ${JSON.stringify(words)} is asked again with TLS`, async () => {
      await using registry = await startSecure();
      await using front = await listen((socket, first) => {
        if (first[0] === 0x16) return forward(socket, first, registry.port);
        socket.end(`HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain\r\n\r\n${words}`);
      });
      await using puller = await openPuller(front.host, `ca = "ca.pem"`);
      await puller.pull(nameOf(registry, front.host));
    });
  }

  test("a host that has spoken TLS is not asked without it, whoever listens there later", async () => {
    await using registry = await startSecure();
    const plain: number[] = [];
    let isSecure = true;
    await using front = await listen((socket, first) => {
      if (isSecure && first[0] === 0x16) return forward(socket, first, registry.port);
      if (first[0] !== 0x16) plain.push(first.length);
      socket.destroy();
    });
    await using puller = await openPuller(front.host, `ca = "ca.pem"`);
    await puller.resolve(nameOf(registry, front.host));
    const before = plain.length;
    isSecure = false;
    await puller.source.resolve(nameOf(registry, front.host), { signal: AbortSignal.timeout(5000), credentials: {}, plainHttp: true }).then(
      () => assert.fail("it answered"),
      (error: { code: string }) => assert.equal(error.code, "REGISTRY_UNREACHABLE"),
    );
    assert.equal(plain.length, before);
  });

  test("it is never left by a redirect or a realm", async () => {
    await using registry = await startSecure();
    await using plain = await ScriptedRegistry.start();
    plain.serve(REPOSITORY, "v1", IMAGE);
    await using puller = await openPuller(registry.host, `ca = "ca.pem"`);
    registry.script = (asked, honest) => (isBlob(asked) ? { status: 307, headers: { location: `${plain.url}${asked.path}` } } : honest);
    await assert.rejects(puller.pull(nameOf(registry)), { code: "REGISTRY_REDIRECT_REFUSED", message: /not over TLS/ });
    registry.script = () => ({ status: 401, headers: { "www-authenticate": `Bearer realm="${plain.url}/token"` } });
    const credentials = { [registry.host]: { username: "anna", password: "secret" } };
    await assert.rejects(puller.pull(nameOf(registry), { credentials }), { code: "REGISTRY_REDIRECT_REFUSED", message: /not over TLS/ });
    assert.deepEqual(plain.asked, []);
  });

  test("our certificate is shown to the registry that it is for, and not to where it points", async () => {
    const at = (name: string): string => join(directory, name);
    await issue("us", "extendedKeyUsage=clientAuth");
    const demanding = { tls: { ...tls, ca: await readFile(certificates.caFile) } };
    await using registry = await startSecure(demanding);
    await using unknown = await openPuller(registry.host, `ca = "ca.pem"`);
    await assert.rejects(unknown.pull(nameOf(registry)), { code: "REGISTRY_UNREACHABLE" });
    const settings = `ca = "ca.pem"\nclient-certificate = "us.pem"\nclient-key = "us.key"`;
    await using puller = await openPuller(registry.host, settings);
    await puller.pull(nameOf(registry));
    await using storage = await startSecure(demanding);
    registry.script = (asked, honest) => (isBlob(asked) ? { status: 307, headers: { location: `${storage.url}${asked.path}` } } : honest);
    await using pointed = await openPuller(registry.host, settings);
    await assert.rejects(pointed.pull(nameOf(registry)), { code: "REGISTRY_UNREACHABLE", message: new RegExp(storage.host) });
    assert.deepEqual(storage.asked, []);
    const certificateDirs = [at("docker")];
    await mkdir(join(directory, "docker", registry.host), { recursive: true });
    for (const [from, to] of [
      ["ca.pem", "ca.crt"],
      ["us.pem", "us.cert"],
      ["us.key", "us.key"],
    ] as const)
      await copyFile(at(from), join(directory, "docker", registry.host, to));
    registry.script = (_asked, honest) => honest;
    await using docker = await openPuller(registry.host, "", certificateDirs);
    await docker.pull(nameOf(registry));
  });

  test("a certificate or key that is none is REGISTRY_CONFIG_INVALID with the file's name", async () => {
    await using registry = await startSecure();
    await writeFile(join(directory, "none.pem"), "hello");
    for (const [settings, file] of [
      [`ca = "none.pem"`, "none.pem"],
      [`ca = "absent.pem"`, "absent.pem"],
    ] as const) {
      await using puller = await openPuller(registry.host, settings);
      await assert.rejects(puller.pull(nameOf(registry)), { code: "REGISTRY_CONFIG_INVALID", object: join(directory, file) });
    }
    for (const [key, why] of [
      ["server.key", /not the key of/],
      ["server.pem", /no key in PEM/],
      ["absent.key", /cannot be read/],
    ] as const) {
      await using puller = await openPuller(registry.host, `client-certificate = "ca.pem"\nclient-key = "${key}"`);
      await assert.rejects(puller.pull(nameOf(registry)), { code: "REGISTRY_CONFIG_INVALID", object: join(directory, key), message: why });
    }
  });

  test("behind a proxy: a tunnel for TLS, the whole address without; names in NO_PROXY go directly", async () => {
    await issue("secure", "subjectAltName=DNS:secure.example");
    const read = (name: string): Promise<Buffer> => readFile(join(directory, name));
    await using secure = await startSecure({ tls: { cert: await read("secure.pem"), key: await read("secure.key") } });
    await using plain = await ScriptedRegistry.start();
    plain.serve(REPOSITORY, "v1", IMAGE);
    const asked: string[] = [];
    await using proxy = await listen((socket, first) => {
      const [line = ""] = first.toString("latin1").split("\r\n");
      asked.push(line.replace(/sha256:\w+/, "DIGEST"));
      if (!line.startsWith("CONNECT "))
        return forward(socket, Buffer.from(first.toString("latin1").replace(/^(\w+) http:\/\/[^/]+/, "$1 "), "latin1"), plain.port);
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.once("data", (hello: Buffer) => forward(socket, hello, secure.port));
    });
    const env = { HTTPS_PROXY: `http://user:word@${proxy.host}`, http_proxy: `http://${proxy.host}`, NO_PROXY: "direct.example" };
    const file = join(directory, "proxied.toml");
    await writeFile(file, `[registry."plain.example:5000"]\nplain-http = true\n[registry."secure.example"]\nca = "ca.pem"\n`);
    await using puller = await Puller.open({
      env,
      config: loadRegistryConfig([file], { certificateDirs: [] }),
      lookup: (_name, _options, callback) => callback(new TypeError("no name is looked up"), "", 4),
    });
    await puller.pull(`plain.example:5000/${REPOSITORY}:v1`);
    assert.equal(asked[0], `GET http://plain.example:5000/v2/${REPOSITORY}/manifests/v1 HTTP/1.1`);
    await puller.pull(`secure.example/${REPOSITORY}:v1`);
    await puller.resolve(`secure.example/${REPOSITORY}:v1`, { plainHttp: true });
    assert.equal(asked.filter((line) => line.startsWith("HEAD http://secure.example")).length, 0, "TLS is not given up");
    assert.ok(asked.includes("CONNECT secure.example:443 HTTP/1.1"), asked.join("\n"));
    await assert.rejects(puller.pull("docker.io/library/debian:12"), {
      code: "REGISTRY_UNREACHABLE",
      message: /docker\.io\/library\/debian:12/,
    });
    assert.ok(asked.includes("CONNECT registry-1.docker.io:443 HTTP/1.1"), "the API of docker.io is elsewhere");
    const before = asked.length;
    await assert.rejects(puller.pull(`direct.example/${REPOSITORY}:v1`), { code: "REGISTRY_UNREACHABLE" });
    await assert.rejects(puller.pull(`10.0.0.1:1/${REPOSITORY}:v1`, { signal: AbortSignal.timeout(3000) }));
    assert.equal(asked.filter((line) => line.includes("direct")).length, 0);
    assert.ok(asked.length > before, "an address that is not exempt is asked for through the proxy");
  });
});
