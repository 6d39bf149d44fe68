import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { createImage } from "./testing/pulling.ts";
import { assertFails, assertRecovers, isBlob, isManifest, REPOSITORY, type Scene, withScene } from "./testing/scene.ts";
import { type Asked, ScriptedRegistry, type Script } from "./testing/scripted-registry.ts";

const IMAGE = createImage([randomBytes(50_000)]);
const PASSWORD = { username: "anna", password: "secret-words" };
const BASIC = `Basic ${Buffer.from("anna:secret-words").toString("base64")}`;

/** A registry with a password whose blobs are with a storage of another origin, at addresses with a signature. */
const withStorage = (
  script: (storage: ScriptedRegistry) => Script,
  run: (scene: Scene & { storage: ScriptedRegistry }) => Promise<void>,
): Promise<void> =>
  withScene(
    IMAGE,
    (_asked, honest) => honest,
    async (scene) => {
      await using storage = await ScriptedRegistry.start();
      storage.serve(REPOSITORY, "v1", IMAGE);
      const own = script(storage);
      scene.registry.script = (asked, honest) =>
        asked.headers.authorization === BASIC ? own(asked, honest) : { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } };
      await run({
        ...scene,
        storage,
        pull: () => scene.puller.pull(scene.reference, { credentials: { [scene.registry.host]: PASSWORD } }),
      });
      await scene.puller.source[Symbol.asyncDispose]();
      await storage.untilIdle();
    },
  );

const toStorage =
  (storage: ScriptedRegistry, status = 307): Script =>
  (asked, honest) =>
    isBlob(asked) ? { status, headers: { location: `${storage.url}${asked.path}?signature=hidden` } } : honest;

suite("redirects", { concurrency: true }, () => {
  test("are followed to another origin without what says who we are", () =>
    withStorage(toStorage, async ({ registry, storage, pull }) => {
      await pull();
      assert.equal(storage.asked.length, 2);
      assert.ok(storage.asked.every(({ headers, query }) => headers.authorization === undefined && query.get("signature") === "hidden"));
      assert.ok(registry.asked.slice(1).every(({ headers }) => headers.authorization === BASIC));
    }));

  for (const status of [301, 302, 303, 308]) {
    test(`${status} is one`, () =>
      withStorage(
        (storage) => toStorage(storage, status),
        async ({ pull }) => void (await pull()),
      ));
  }

  test("within the registry keep it, and may be relative", () =>
    withStorage(
      () => (asked, honest) =>
        isManifest(asked) && asked.query.get("moved") === null ? { status: 302, headers: { location: `${asked.path}?moved=1` } } : honest,
      async ({ registry, pull }) => {
        await pull();
        assert.equal(registry.asked.filter(({ query }) => query.get("moved") === "1").length, 1);
      },
    ));

  test("a cut at the storage is gone on with through the registry, which makes a new address", () =>
    withStorage(toStorage, async ({ registry, storage, pull }) => {
      let isCut = false;
      storage.script = (_asked, honest) => {
        if (isCut || (honest.body?.length ?? 0) < 50_000) return honest;
        isCut = true;
        return { ...honest, cutAfter: 20_000 };
      };
      registry.asked = [];
      await pull();
      const ranges = storage.asked.flatMap(({ headers }) => headers.range ?? []);
      assert.deepEqual(ranges, ["bytes=20000-"]);
      assert.equal(registry.asked.filter(({ headers }) => headers.range === "bytes=20000-").length, 1);
    }));

  test("an address that has expired is asked for anew; a storage that always refuses is a typed error without its signature", () =>
    withStorage(toStorage, async (scene) => {
      let left = 1;
      scene.storage.script = (_asked, honest) => (left-- > 0 ? { status: 403, body: Buffer.from("<Error>expired</Error>") } : honest);
      await scene.pull();
      for (const digest of await scene.puller.stored()) await scene.puller.content.remove(digest);
      scene.storage.script = () => ({ status: 403, body: Buffer.from("<Error>expired</Error>") });
      const error = await assertFails(scene, scene.pull(), {
        code: "REGISTRY_FAILED",
        pattern: new RegExp(`${scene.storage.host} answered 403`),
      });
      assert.doesNotMatch(error.message, /hidden|signature/);
    }));

  test("a storage that asks for a login gets none", () =>
    withStorage(toStorage, async (scene) => {
      scene.storage.script = () => ({ status: 401, headers: { "www-authenticate": 'Basic realm="give me"' } });
      await assertFails(scene, scene.pull(), { code: "REGISTRY_FAILED", pattern: /answered 401/ });
      assert.ok(scene.storage.asked.every(({ headers }) => headers.authorization === undefined));
    }));

  test("in a circle end after five", () =>
    withStorage(
      () => (asked) => ({ status: 302, headers: { location: asked.path } }),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_FAILED", pattern: /redirects more than 5 times/ });
        assert.ok(scene.registry.asked.length <= 8);
      },
    ));

  const bad: readonly (readonly [string, string, RegExp])[] = [
    ["ftp://127.0.0.1/x", "REGISTRY_REDIRECT_REFUSED", /not over TLS/],
    ["file:///etc/passwd", "REGISTRY_REDIRECT_REFUSED", /not over TLS/],
    ["https://[bad/?key=hidden", "REGISTRY_FAILED", /no address/],
  ];
  for (const [location, code, pattern] of bad) {
    test(`to ${location} are a typed error`, () =>
      withStorage(
        () => (asked, honest) => (isBlob(asked) ? { status: 302, headers: { location } } : honest),
        async (scene) => {
          const error = await assertFails(scene, scene.pull(), { code, pattern });
          assert.doesNotMatch(error.message, /hidden/);
          await assertRecovers({ ...scene, pull: () => scene.puller.pull(scene.reference) }, IMAGE);
        },
      ));
  }
});

test("a realm that answers a refresh token with a redirect does not get it sent on", () =>
  withScene(
    IMAGE,
    (_asked, honest) => honest,
    async (scene) => {
      const { registry, puller, reference } = scene;
      await using other = await ScriptedRegistry.start();
      registry.script = ({ path }: Asked) =>
        path === "/token"
          ? { status: 307, headers: { location: `${other.url}/steal` } }
          : { status: 401, headers: { "www-authenticate": `Bearer realm="${registry.url}/token"` } };
      const pulling = puller.pull(reference, { credentials: { [registry.host]: { identityToken: "refresh" } } });
      await assertFails(scene, pulling, { code: "REGISTRY_REDIRECT_REFUSED", pattern: /points elsewhere with what is secret/ });
      assert.deepEqual(other.asked, []);
    },
  ));
