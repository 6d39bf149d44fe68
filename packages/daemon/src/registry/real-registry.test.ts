import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import type { OperationPart, RegistryCredentials } from "@kiln/protocol";
import { copyToRegistry, scratchBinary, skipImages } from "../../../../test/fixtures/images.ts";
import { startRegistry } from "../../../../test/fixtures/registry.ts";
import { loadRegistryConfig } from "./registry-config.ts";
import { forward, listen } from "./testing/listener.ts";
import { createImage, digestOf, PATIENT_LIMITS, Puller } from "./testing/pulling.ts";
import { pushImage, pushManifest } from "./testing/push.ts";

const signal = AbortSignal.timeout(120_000);
const PASSWORD = { username: "anna", password: "secret words" };
const BASIC = { authorization: `Basic ${Buffer.from("anna:secret words").toString("base64")}` };
const REPOSITORY = "team/app";

const openPuller = (parts: Parameters<typeof Puller.open>[0] = {}): Promise<Puller> => Puller.open({ limits: PATIENT_LIMITS, ...parts });

suite("Debian's docker-registry", { concurrency: true }, () => {
  test("an image is pulled whole, by one request for each of its parts; the second time by one for the manifest", async () => {
    await using registry = await startRegistry({ signal });
    await using puller = await openPuller();
    const image = createImage([randomBytes(300_000), randomBytes(10), randomBytes(0)]);
    await pushImage({ url: registry.url, repository: REPOSITORY }, "v1", image);
    await registry.clearLog();
    const reference = `${registry.host}/${REPOSITORY}:v1`;
    const phases: string[] = [];
    let parts: readonly OperationPart[] = [];
    const { image: pulled, root } = await puller.pull(reference, {
      onPhase: (name) => phases.push(name),
      onParts: (now) => void (parts = now),
    });
    assert.equal(root, image.digest);
    assert.equal(pulled.reference, reference);
    assert.deepEqual(await puller.stored(), [...image.blobs.keys()].sort());
    assert.deepEqual(new Set(await puller.stored()).difference(puller.held), new Set(), "the lease holds all of it");
    assert.deepEqual(phases, ["resolve", "fetch layers"]);
    assert.deepEqual(
      parts.map(({ state, done }) => [state, done]),
      [
        ["done", 300_000],
        ["done", 10],
        ["done", 0],
      ],
    );
    const log = await registry.accessLog();
    const blobs = [...image.blobs.keys()].filter((digest) => digest !== image.digest).sort();
    assert.deepEqual(log.map(({ method, path }) => `${method} ${path}`).sort(), [
      ...blobs.map((digest) => `GET /v2/${REPOSITORY}/blobs/${digest}`),
      `GET /v2/${REPOSITORY}/manifests/v1`,
    ]);
    await registry.clearLog();
    await puller.pull(reference);
    assert.equal((await registry.accessLog()).length, 1);
    await registry.clearLog();
    assert.equal(await puller.resolve(reference), image.digest);
    assert.deepEqual(
      (await registry.accessLog()).map(({ method, path, userAgent }) => [method, path, userAgent]),
      [["HEAD", `/v2/${REPOSITORY}/manifests/v1`, "kiln/test"]],
    );
    await registry.clearLog();
    assert.equal(await puller.resolve(`${registry.host}/${REPOSITORY}@${image.digest}`), image.digest, "a digest needs no request");
    assert.deepEqual(await registry.accessLog(), []);
    await puller.assertClean();
  });

  test("an index leads to the manifest of the platform, by tag and by digest", async () => {
    await using registry = await startRegistry({ signal });
    await using puller = await openPuller();
    const [image, other] = [createImage([randomBytes(1000)]), createImage([randomBytes(1000)])];
    const target = { url: registry.url, repository: REPOSITORY };
    await pushImage(target, "amd64", image);
    await pushImage(target, "other", other);
    for (const [tag, mediaType, entry] of [
      ["oci", MEDIA_TYPES.index, MEDIA_TYPES.manifest],
      ["docker", MEDIA_TYPES.dockerManifestList, MEDIA_TYPES.manifest],
    ] as const) {
      const manifests = [other, image].map(({ manifest }, n) => ({
        mediaType: entry,
        digest: digestOf(manifest),
        size: manifest.length,
        platform: { os: "linux", architecture: n === 0 ? "arm64" : "amd64" },
      }));
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
      await pushManifest(target, tag, { mediaType, bytes });
      for (const reference of [`${registry.host}/${REPOSITORY}:${tag}`, `${registry.host}/${REPOSITORY}@${digestOf(bytes)}`]) {
        const { image: pulled, root } = await puller.pull(reference);
        assert.deepEqual([pulled.manifestDigest, root], [image.digest, digestOf(bytes)]);
      }
    }
    assert.equal((await puller.stored()).includes(other.digest), false);
  });

  test("a connection that is cut is gone on with by 206", async () => {
    await using registry = await startRegistry({ signal });
    const image = createImage([randomBytes(2_000_000)]);
    await pushImage({ url: registry.url, repository: REPOSITORY }, "v1", image);
    await registry.clearLog();
    let cuts = 0;
    // every connection ends after 700,000 bytes
    await using front = await listen((socket, first) => {
      const onward = forward(socket, first, Number(registry.host.split(":")[1]));
      let seen = 0;
      onward.on("data", (chunk: Buffer) => {
        seen += chunk.length;
        if (seen < 700_000 || socket.destroyed) return;
        cuts += 1;
        socket.destroy();
      });
    });
    await using puller = await openPuller();
    await puller.pull(`${front.host}/${REPOSITORY}:v1`);
    assert.ok(cuts >= 2);
    const statuses = (await registry.accessLog())
      .filter(({ path }) => path.endsWith(digestOf(image.layers[0] ?? Buffer.alloc(0))))
      .map(({ status }) => status);
    assert.equal(statuses[0], 200);
    assert.ok(statuses.length >= 3 && statuses.slice(1).every((status) => status === 206), statuses.join(" "));
    await puller.assertClean();
  });

  test("a registry with TLS, a CA of its own and a password", async () => {
    await using registry = await startRegistry({ signal, tls: true, auth: PASSWORD });
    const directory = await mkdtemp(join(tmpdir(), "kiln real "));
    try {
      const file = join(directory, "registries.toml");
      await writeFile(file, `[registry."${registry.host}"]\nca = ${JSON.stringify(registry.caFile)}\n`);
      await using puller = await openPuller({ config: loadRegistryConfig([file], { certificateDirs: [] }) });
      const reference = `${registry.host}/${REPOSITORY}:v1`;
      await assert.rejects(puller.pull(reference), { code: "REGISTRY_UNAUTHORIZED", message: new RegExp(`${reference} is denied`) });
      const credentials = { [registry.host]: PASSWORD };
      await assert.rejects(puller.pull(reference, { credentials: { [registry.host]: { username: "anna", password: "wrong" } } }), {
        code: "REGISTRY_UNAUTHORIZED",
      });
      await assert.rejects(puller.pull(reference, { credentials }), { code: "IMAGE_NOT_FOUND", message: /MANIFEST_UNKNOWN|NAME_UNKNOWN/ });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("a registry with a password gives its image to who knows it", async () => {
    await using registry = await startRegistry({ signal, auth: PASSWORD });
    await using puller = await openPuller();
    const image = createImage([randomBytes(1000)]);
    await pushImage({ url: registry.url, repository: REPOSITORY, headers: BASIC }, "v1", image);
    const credentials = { [registry.host]: PASSWORD };
    const reference = `${registry.host}/${REPOSITORY}:v1`;
    await puller.pull(reference, { credentials });
    await registry.clearLog();
    assert.equal(await puller.resolve(reference, { credentials }), image.digest);
    assert.deepEqual(
      (await registry.accessLog()).map(({ status }) => status),
      [200],
    );
  });

  test("images that skopeo pushed, in each of the formats, by tokens and TLS", { skip: skipImages }, async () => {
    await using registry = await startRegistry({ signal, tls: true, auth: PASSWORD, token: { anonymousPull: true } });
    const directory = await mkdtemp(join(tmpdir(), "kiln real "));
    try {
      const image = await scratchBinary({ signal });
      const file = join(directory, "registries.toml");
      await writeFile(file, `[registry."${registry.host}"]\nca = ${JSON.stringify(registry.caFile)}\n`);
      for (const [tag, format] of [
        ["oci", {}],
        ["docker", { format: "docker" }],
        ["zstd", { compression: "zstd" }],
        ["plain", { compression: "none" }],
      ] as const) {
        const target = `${registry.host}/${REPOSITORY}:${tag}`;
        const digest = await copyToRegistry(image, target, { signal, ...registry.access, ...format });
        await using puller = await openPuller({ config: loadRegistryConfig([file], { certificateDirs: [] }) });
        const identity = { [`https://${registry.host}`]: { identityToken: registry.tokens.identityToken } };
        const callers: readonly (readonly [RegistryCredentials, string])[] = [
          [{}, "GET"],
          [{ [registry.host]: PASSWORD }, "GET"],
          [identity, "POST"],
        ];
        for (const [credentials, method] of callers) {
          registry.tokens.clearLog();
          const { image: pulled } = await puller.pull(target, { credentials });
          assert.equal(pulled.manifestDigest, digest);
          assert.equal(await puller.resolve(target, { credentials }), digest);
          const asked = registry.tokens.log.map((one) => [one.method, one.status]);
          assert.deepEqual(asked, [[method, 200]], "one token serves all of it");
        }
        const failing = puller.pull(target, { credentials: { [registry.host]: { username: "anna", password: "wrong" } } });
        await assert.rejects(failing, { code: "REGISTRY_UNAUTHORIZED", message: /these credentials are not known here/ });
        await puller.assertClean();
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
