import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { createImage } from "./testing/pulling.ts";
import { always, assertFails, assertRecovers, first, isManifest, withScene } from "./testing/scene.ts";
import { type Asked, type Reply, refusal } from "./testing/scripted-registry.ts";

const LAYER = randomBytes(200_000);
const IMAGE = createImage([LAYER]);
const [LAYER_DIGEST] = [...IMAGE.blobs.keys()];

const isLayer = ({ path }: Asked): boolean => path.endsWith(String(LAYER_DIGEST));

suite("bodies that are not what they should be", { concurrency: true }, () => {
  const bodies: readonly (readonly [string, Partial<Reply>, string, RegExp])[] = [
    ["other bytes", { body: randomBytes(LAYER.length) }, "CONTENT_DIGEST_MISMATCH", /the bytes that came as/],
    ["too few, as announced", { body: LAYER.subarray(1) }, "CONTENT_SIZE_MISMATCH", /has 199999 bytes, the image says 200000/],
    ["too many, as announced", { body: Buffer.concat([LAYER, LAYER]) }, "CONTENT_SIZE_MISMATCH", /has 400000 bytes/],
    ["too few, unannounced", { body: LAYER.subarray(1), status: 200, isChunked: true }, "CONTENT_SIZE_MISMATCH", /ended after/],
    ["too many, unannounced", { body: Buffer.concat([LAYER, LAYER]), isChunked: true }, "CONTENT_SIZE_MISMATCH", /more than 200000 bytes/],
    ["nothing", { body: Buffer.alloc(0), isChunked: true }, "CONTENT_SIZE_MISMATCH", /ended after 0 of 200000/],
    [
      "more announced than sent",
      { headers: { "content-length": "200001" }, cutAfter: 200_000 },
      "CONTENT_SIZE_MISMATCH",
      /has 200001 bytes/,
    ],
  ];
  for (const [name, change, code, pattern] of bodies) {
    test(`${name}: a typed error, and nothing is left`, () =>
      withScene(
        IMAGE,
        always(isLayer, (honest) => ({ ...honest, ...change })),
        async (scene) => {
          await assertFails(scene, scene.pull(), { code, pattern });
          await assertRecovers(scene, IMAGE);
        },
      ));
  }

  test("fewer bytes announced than sent: what was announced is taken, and no more of that connection is believed", () =>
    withScene(
      IMAGE,
      always(isLayer, () => ({ status: 200, raw: `HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n${"x".repeat(50)}` })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "CONTENT_SIZE_MISMATCH", pattern: /has 10 bytes/ });
        await assertRecovers(scene, IMAGE);
      },
    ));
});

suite("hosts that are slow", { concurrency: true }, () => {
  test("one that stalls is left and asked for the rest", () =>
    withScene(
      IMAGE,
      first(1, isLayer, (honest) => ({ ...honest, stallAfter: 50_000 })),
      async ({ registry, pull }) => {
        await pull();
        assert.deepEqual(
          registry.asked.filter(isLayer).map(({ headers }) => headers.range ?? null),
          [null, "bytes=50000-"],
        );
      },
    ));

  test("one that always stalls is a typed error", () =>
    withScene(
      IMAGE,
      always(isLayer, (honest) => ({ ...honest, stallAfter: 500 })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /sends nothing any more/ });
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("one that never begins is a typed error", () =>
    withScene(
      IMAGE,
      always(
        () => true,
        (honest) => ({ ...honest, stallAfter: -1 }),
      ),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /does not answer the request/ });
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("one that crawls is left and asked for the rest", () =>
    withScene(
      IMAGE,
      first(1, isLayer, (honest) => ({ ...honest, trickle: { bytes: 10, everyMs: 20 } })),
      async ({ registry, pull }) => {
        await pull();
        assert.equal(registry.asked.filter(isLayer).length, 2);
        assert.match(registry.asked.findLast(isLayer)?.headers.range ?? "", /^bytes=\d\d+-$/);
      },
    ));

  test("one that always crawls is a typed error", () =>
    withScene(
      IMAGE,
      always(isLayer, (honest) => ({ ...honest, trickle: { bytes: 10, everyMs: 20 } })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /too slowly: \d+ bytes in/ });
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("a manifest that trickles is given up in time", () =>
    withScene(
      IMAGE,
      always(isManifest, (honest) => ({ ...honest, trickle: { bytes: 1, everyMs: 50 } })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /took longer than 1.5 s/ });
        await assertRecovers(scene, IMAGE);
      },
    ));
});

suite("hosts that are busy", { concurrency: true }, () => {
  for (const status of [429, 503]) {
    test(`${status} with a time is waited for`, () =>
      withScene(
        IMAGE,
        first(1, isLayer, () => ({ ...refusal(status, "TOOMANYREQUESTS", "slowly"), headers: { "retry-after": "1" } })),
        async ({ registry, pull }) => {
          const begunMs = performance.now();
          await pull();
          assert.ok(performance.now() - begunMs >= 1000);
          assert.equal(registry.asked.filter(isLayer).length, 2);
        },
      ));

    test(`${status} with a time that is too long is an error at once`, () =>
      withScene(
        IMAGE,
        always(isManifest, () => ({ ...refusal(status, "TOOMANYREQUESTS", "slowly"), headers: { "retry-after": "21600" } })),
        async (scene) => {
          await assertFails(scene, scene.pull(), {
            code: "REGISTRY_RATE_LIMITED",
            pattern: /TOOMANYREQUESTS: slowly.*come back in 6 hours/,
          });
          assert.equal(scene.registry.asked.length, 1);
          await assertRecovers(scene, IMAGE);
        },
      ));
  }

  test("429 without a time is tried some times, and then an error", () =>
    withScene(
      IMAGE,
      always(
        () => true,
        () => refusal(429, "TOOMANYREQUESTS", "no"),
      ),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_RATE_LIMITED", pattern: /answered 429: TOOMANYREQUESTS: no/ });
        assert.equal(scene.registry.asked.length, 3);
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("500 once is nothing, always is an error with the registry's words", () =>
    withScene(
      IMAGE,
      first(1, isLayer, () => refusal(500, "UNKNOWN", "the disk is gone")),
      async (scene) => {
        await scene.pull();
        assert.equal(scene.registry.asked.filter(isLayer).length, 2);
        scene.registry.script = always(isManifest, () => refusal(500, "UNKNOWN", "the disk is gone"));
        await assertFails(scene, scene.pull(), { code: "REGISTRY_FAILED", pattern: /answered 500: UNKNOWN: the disk is gone/ });
      },
    ));
});

suite("leaving", () => {
  test("a caller that leaves in the middle of a layer stops the transfer, and nothing is left", () => {
    const abort = new AbortController();
    return withScene(
      IMAGE,
      always(isLayer, (honest) => ({ ...honest, trickle: { bytes: 2000, everyMs: 5 } })),
      async ({ registry, puller, pull }) => {
        const reason = new KilnError("CANCELLED", "left");
        const pulling = pull({ signal: abort.signal, onProgress: ({ done }) => void (done > 2000 && abort.abort(reason)) });
        await assert.rejects(pulling, (error) => error === reason);
        await puller.assertClean();
        assert.equal(registry.asked.filter(isLayer).length, 1);
      },
    );
  });

  test("a caller that leaves during a pause returns at once", () => {
    const abort = new AbortController();
    return withScene(
      IMAGE,
      always(
        () => true,
        () => ({ ...refusal(429, "TOOMANYREQUESTS", ""), headers: { "retry-after": "2" } }),
      ),
      async ({ pull }) => {
        setTimeout(() => abort.abort(new KilnError("CANCELLED", "left")), 50);
        const begunMs = performance.now();
        await assert.rejects(pull({ signal: abort.signal }), { code: "CANCELLED" });
        assert.ok(performance.now() - begunMs < 1000);
      },
    );
  });
});
