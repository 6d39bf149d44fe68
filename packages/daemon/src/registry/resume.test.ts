import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { createImage, FAST_LIMITS } from "./testing/pulling.ts";
import { always, assertFails, assertRecovers, first, isBlob, isManifest, withScene } from "./testing/scene.ts";
import type { Asked, Reply, Script } from "./testing/scripted-registry.ts";

const LAYER = randomBytes(600_000);
const IMAGE = createImage([LAYER]);
const [LAYER_DIGEST] = [...IMAGE.blobs.keys()];

const isLayer = ({ path }: Asked): boolean => path.endsWith(String(LAYER_DIGEST));
const isConfig = (asked: Asked): boolean => isBlob(asked) && !isLayer(asked);

/** Where in the whole blob a reply begins. */
const startOf = ({ headers }: Asked): number => Number(/\d+/.exec(headers.range ?? "0")?.[0]);

/** Cuts the connection at this byte of the whole, wherever the reply begins. */
const cutAt =
  (at: number) =>
  (honest: Reply, asked: Asked): Reply => ({ ...honest, cutAfter: at === -1 ? -1 : Math.max(0, at - startOf(asked)) });

suite("a connection that is cut", { concurrency: true }, () => {
  const stages: readonly (readonly [string, (asked: Asked) => boolean, number])[] = [
    ["before the manifest's head", isManifest, -1],
    ["before the manifest's body", isManifest, 0],
    ["in the manifest", isManifest, 100],
    ["before the blobs' heads", isBlob, -1],
    ["in the config", isConfig, 10],
    ["in a layer at 0", isLayer, 0],
    ["in a layer at 1", isLayer, 1],
    ["in a layer at 65,536", isLayer, 65_536],
    ["in a layer's middle", isLayer, 300_001],
    ["before a layer's last byte", isLayer, LAYER.length - 1],
  ];
  for (const [name, applies, at] of stages) {
    test(`${name}, once: the pull goes on`, () =>
      withScene(IMAGE, first(1, applies, cutAt(at)), async ({ registry, puller, pull }) => {
        await pull();
        assert.deepEqual(await puller.stored(), [...IMAGE.blobs.keys()].sort());
        const starts = registry.asked.filter(isLayer).map(startOf);
        if (applies !== isLayer) return;
        assert.deepEqual(starts, [0, Math.max(at, 0)], "no byte is asked for twice");
      }));

    test(`${name}, always: a typed error, and nothing is left`, () =>
      withScene(IMAGE, always(applies, cutAt(at)), async (scene) => {
        const error = await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /ended the connection/ });
        if (applies === isLayer) {
          assert.equal(error.object, LAYER_DIGEST);
          assert.ok(!(await scene.puller.stored()).includes(LAYER_DIGEST as never));
        }
        await assertRecovers(scene, IMAGE);
      }));
  }

  test("after a layer's last byte: the layer is whole", () =>
    withScene(IMAGE, always(isLayer, cutAt(LAYER.length)), async ({ registry, pull }) => {
      await pull();
      assert.equal(registry.asked.filter(isLayer).length, 1);
    }));

  test("nobody listens: a typed error", () =>
    withScene(
      IMAGE,
      (_asked, honest) => honest,
      async (scene) => {
        await scene.registry.stop();
        const expected = { code: "REGISTRY_UNREACHABLE", pattern: /nothing listens there/ };
        await assertFails(scene, scene.pull(), expected);
        await assertFails(scene, scene.puller.resolve(scene.reference), expected);
      },
    ));

  test("again and again, but each time later: it is gone on with for as long as there is progress", () =>
    withScene(
      IMAGE,
      (asked, honest) => (isLayer(asked) ? { ...honest, cutAfter: 100_000 } : honest),
      async ({ registry, pull }) => {
        await pull();
        assert.equal(registry.asked.filter(isLayer).length, 6);
      },
    ));

  test("more often than a transfer may be: a typed error in spite of progress", () =>
    withScene(
      IMAGE,
      always(isLayer, (honest) => ({ ...honest, cutAfter: 2000 })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /ended the connection/ });
        assert.equal(scene.registry.asked.filter(isLayer).length, FAST_LIMITS.transferAttempts);
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("a host that gives one byte each time is left after some tries", () =>
    withScene(
      IMAGE,
      always(isLayer, (honest) => ({ ...honest, cutAfter: 1 })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "REGISTRY_UNREACHABLE", pattern: /ended the connection/ });
        assert.equal(scene.registry.asked.filter(isLayer).length, 3);
        await assertRecovers(scene, IMAGE);
      },
    ));
});

suite("going on with a layer", () => {
  const cutOnce = (then: (honest: Reply, asked: Asked) => Reply): Script => {
    let n = 0;
    return (asked, honest) => {
      if (!isLayer(asked)) return honest;
      n += 1;
      return n === 1 ? { ...honest, cutAfter: 400_000 } : then(honest, asked);
    };
  };
  const whole = (honest: Reply): Reply => ({ ...honest, status: 200, headers: {}, body: LAYER });

  test("a host without ranges sends all again, and what is there is skipped", () =>
    withScene(IMAGE, cutOnce(whole), async ({ registry, puller, pull }) => {
      await pull();
      assert.equal(registry.asked.filter(isLayer).length, 2);
      assert.equal((await puller.stored()).length, 3);
    }));

  test("416 means from the start", () =>
    withScene(
      IMAGE,
      cutOnce((honest, { headers }) => (headers.range === undefined ? whole(honest) : { status: 416 })),
      async ({ registry, pull }) => {
        await pull();
        assert.deepEqual(
          registry.asked.filter(isLayer).map(({ headers }) => headers.range ?? null),
          [null, "bytes=400000-", null],
        );
      },
    ));

  test("another part than the one asked for is not believed", () =>
    withScene(
      IMAGE,
      cutOnce((honest, { headers }) => {
        if (headers.range === undefined) return whole(honest);
        return { ...honest, headers: { "content-range": `bytes 0-${LAYER.length - 1}/${LAYER.length}` }, body: LAYER };
      }),
      async ({ registry, pull }) => {
        await pull();
        assert.equal(registry.asked.filter(isLayer).length, 3);
      },
    ));

  test("a part of something of another size is refused", () =>
    withScene(
      IMAGE,
      cutOnce((honest) => ({ ...honest, headers: { "content-range": "bytes 400000-699999/700000" } })),
      async (scene) => {
        await assertFails(scene, scene.pull(), { code: "CONTENT_SIZE_MISMATCH", pattern: /has 700000 bytes, the image says 600000/ });
        await assertRecovers(scene, IMAGE);
      },
    ));

  test("what is gone on with wrongly is found out by its digest", () =>
    withScene(
      IMAGE,
      cutOnce((honest) => ({ ...honest, body: randomBytes(LAYER.length - 400_000) })),
      async (scene) => {
        const error = await assertFails(scene, scene.pull(), { code: "CONTENT_DIGEST_MISMATCH", pattern: /sha256/ });
        assert.equal(error.object, LAYER_DIGEST);
        assert.equal(scene.registry.asked.filter(isLayer).length, 2, "it is not asked for again where it came from");
        await assertRecovers(scene, IMAGE);
      },
    ));
});
