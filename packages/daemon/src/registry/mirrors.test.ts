import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { loadRegistryConfig } from "./registry-config.ts";
import { createImage, Puller } from "./testing/pulling.ts";
import { isBlob, isManifest, REPOSITORY } from "./testing/scene.ts";
import { refusal, ScriptedRegistry, type Script } from "./testing/scripted-registry.ts";

const IMAGE = createImage([randomBytes(20_000), randomBytes(300)]);
const honest: Script = (_asked, reply) => reply;

interface Mirrored {
  readonly registry: ScriptedRegistry;
  readonly first: ScriptedRegistry;
  readonly second: ScriptedRegistry;
  readonly puller: Puller;
  readonly reference: string;
}

/** A registry with two mirrors, the second under a namespace of its own; all three have the image. */
const withMirrors = async (run: (mirrored: Mirrored) => Promise<void>, settings: (hosts: Mirrored) => string = () => ""): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln mirrors "));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rm(directory, { recursive: true }));
  const [registry, first, second] = [
    cleanup.use(await ScriptedRegistry.start()),
    cleanup.use(await ScriptedRegistry.start()),
    cleanup.use(await ScriptedRegistry.start()),
  ];
  registry.serve(REPOSITORY, "v1", IMAGE);
  first.serve(REPOSITORY, "v1", IMAGE);
  second.serve(`cache/of/${REPOSITORY}`, "v1", IMAGE);
  const file = join(directory, "registries.toml");
  const puller = cleanup.use(await Puller.open({ config: loadRegistryConfig([file], { certificateDirs: [] }) }));
  const mirrored = { registry, first, second, puller, reference: `${registry.host}/${REPOSITORY}:v1` };
  await writeFile(file, `[registry."${registry.host}"]\nmirrors = ["${first.host}", "${second.host}/cache/of"]\n${settings(mirrored)}`);
  await run(mirrored);
  await puller.assertClean();
  await puller.source[Symbol.asyncDispose]();
  await Promise.all([registry, first, second].map((one) => one.untilIdle()));
};

suite("mirrors", { concurrency: true }, () => {
  test("are asked in their order before the registry, and learn which registry is meant", () =>
    withMirrors(async ({ registry, first, second, puller, reference }) => {
      assert.equal(await puller.resolve(reference), IMAGE.digest);
      const { image } = await puller.pull(reference);
      assert.equal(image.reference, reference);
      assert.equal(first.asked.length, 5);
      assert.ok(first.asked.every(({ query }) => query.get("ns") === registry.host));
      assert.deepEqual([second.asked.length, registry.asked.length], [0, 0]);
    }));

  const failures: readonly (readonly [string, Script])[] = [
    ["lacks the image", () => refusal(404, "NAME_UNKNOWN", "what")],
    ["wants a login", () => ({ status: 401, headers: { "www-authenticate": 'Basic realm="x"' } })],
    ["is broken", () => refusal(500, "UNKNOWN", "broken")],
    ["is busy", () => ({ status: 429, headers: { "retry-after": "60" } })],
    ["serves wrong blobs", (asked, reply) => (isBlob(asked) ? { ...reply, body: randomBytes(reply.body?.length ?? 0) } : reply)],
    ["serves blobs of another size", (asked, reply) => (isBlob(asked) ? { ...reply, body: Buffer.from("x") } : reply)],
    ["serves a wrong manifest", (asked, reply) => (isManifest(asked) ? { ...reply, body: Buffer.from("{}") } : reply)],
    ["cuts every layer", (asked, reply) => (isBlob(asked) ? { ...reply, cutAfter: 10 } : reply)],
    ["is no registry", () => ({ status: 200, headers: { "content-type": "text/html" }, body: Buffer.from("<html>") })],
    ["redirects to where it may not", () => ({ status: 302, headers: { location: "file:///etc/passwd" } })],
  ];
  for (const [name, script] of failures) {
    test(`one that ${name} is passed over for the next`, () =>
      withMirrors(async ({ registry, first, second, puller, reference }) => {
        first.script = script;
        await puller.pull(reference);
        assert.deepEqual(await puller.stored(), [...IMAGE.blobs.keys()].sort());
        assert.ok(second.asked.length > 0 && second.asked.every(({ path }) => path.startsWith(`/v2/cache/of/${REPOSITORY}/`)));
        assert.equal(registry.asked.length, 0);
      }));
  }

  test("that are down cost little, and the registry itself is asked", () =>
    withMirrors(async ({ registry, first, second, puller, reference }) => {
      await first.stop();
      await second.stop();
      await puller.pull(reference);
      assert.equal(registry.asked.length, 4);
      assert.ok(registry.asked.every(({ query }) => query.get("ns") === null));
    }));

  test("the failure of all names each, with the code of the registry's own", () =>
    withMirrors(async ({ registry, first, second, puller, reference }) => {
      first.script = () => refusal(500, "UNKNOWN", "first is broken");
      second.script = () => refusal(403, "DENIED", "second says no");
      registry.script = () => refusal(404, "MANIFEST_UNKNOWN", "registry has none");
      await assert.rejects(puller.pull(reference), (error) => {
        assert.ok(error instanceof KilnError);
        assert.equal(error.code, "IMAGE_NOT_FOUND");
        for (const words of [first.host, "first is broken", second.host, "second says no", "registry has none", reference])
          assert.ok(error.message.includes(words), words);
        return true;
      });
    }));

  test("that all serve wrong bytes end in a digest's mismatch that names the registry", () =>
    withMirrors(async ({ registry, first, second, puller, reference }) => {
      for (const one of [registry, first, second])
        one.script = (asked, reply) => (isBlob(asked) ? { ...reply, body: randomBytes(reply.body?.length ?? 0) } : reply);
      await assert.rejects(puller.pull(reference), (error) => {
        assert.ok(error instanceof KilnError);
        assert.equal(error.code, "CONTENT_DIGEST_MISMATCH");
        assert.ok(error.message.includes(`${registry.host}/${REPOSITORY}@sha256:`), error.message);
        return true;
      });
      assert.deepEqual(await puller.stored(), [IMAGE.digest]);
    }));

  test("see the credentials for their own host only", () =>
    withMirrors(async ({ registry, first, puller, reference }) => {
      const wanted =
        (user: string): Script =>
        (asked, reply) =>
          asked.headers.authorization === `Basic ${Buffer.from(`${user}:p`).toString("base64")}`
            ? reply
            : { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } };
      first.script = wanted("mirror");
      registry.script = wanted("registry");
      const credentials = { [registry.host]: { username: "registry", password: "p" }, [first.host]: { username: "mirror", password: "p" } };
      await puller.pull(reference, { credentials });
      assert.ok(first.asked.slice(1).every(({ headers }) => headers.authorization?.includes(Buffer.from("mirror:p").toString("base64"))));
    }));

  test("that are blocked are not asked, and neither is a registry", async () => {
    await withMirrors(
      async ({ first, second, puller, reference }) => {
        await puller.pull(reference);
        assert.equal(first.asked.length, 0);
        assert.ok(second.asked.length > 0);
      },
      ({ first }) => `[registry."${first.host}"]\nblocked = true\n`,
    );
    await withMirrors(
      async ({ registry, first, puller, reference }) => {
        await assert.rejects(puller.pull(reference), { code: "PERMISSION_DENIED", object: reference, message: /blocks/ });
        assert.deepEqual([registry.asked.length, first.asked.length], [0, 0]);
      },
      () => "blocked = true\n",
    );
  });

  test("a wrong tag of a mirror's is a mirror's right: its manifest is what the tag means", () =>
    withMirrors(async ({ first, puller, reference }) => {
      const other = createImage([randomBytes(10)]);
      first.serve(REPOSITORY, "v1", other);
      first.script = honest;
      assert.equal((await puller.pull(reference)).image.manifestDigest, other.digest);
    }));
});

test("a registries.toml that is damaged ends a pull with the file's name, and nothing else", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kiln mirrors "));
  try {
    const file = join(directory, "registries.toml");
    await writeFile(file, "[registry");
    await using registry = await ScriptedRegistry.start();
    registry.serve(REPOSITORY, "v1", IMAGE);
    await using puller = await Puller.open({ config: loadRegistryConfig([file], { certificateDirs: [] }) });
    const reference = `${registry.host}/${REPOSITORY}:v1`;
    await assert.rejects(puller.pull(reference), { code: "REGISTRY_CONFIG_INVALID", object: file });
    await writeFile(file, "");
    await puller.pull(reference);
  } finally {
    await rm(directory, { recursive: true });
  }
});
