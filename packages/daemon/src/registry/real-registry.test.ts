import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import type { OperationPart } from "@kiln/protocol";
import { startRegistry } from "../../../../test/fixtures/registry.ts";
import { createImage, Puller } from "./testing/pulling.ts";
import { pushImage } from "./testing/push.ts";

const signal = AbortSignal.timeout(120_000);

suite("Debian's docker-registry", () => {
  test("an image is pulled whole, by one request for each of its parts; the second time by one for the manifest", async () => {
    await using registry = await startRegistry({ signal });
    await using puller = await Puller.open();
    const image = createImage([randomBytes(300_000), randomBytes(10), randomBytes(0)]);
    await pushImage({ url: registry.url, repository: "team/app" }, "v1", image);
    await registry.clearLog();
    const reference = `${registry.host}/team/app:v1`;
    const phases: string[] = [];
    const parts: (readonly OperationPart[])[] = [];
    const { image: pulled, root } = await puller.pull(reference, {
      onPhase: (name) => phases.push(name),
      onParts: (now) => parts.push(now),
    });
    assert.equal(root, image.digest);
    assert.equal(pulled.reference, reference);
    assert.deepEqual(await puller.stored(), [...image.blobs.keys()].sort());
    assert.deepEqual(new Set(await puller.stored()).difference(puller.held), new Set(), "the lease holds all of it");
    assert.deepEqual(phases, ["resolve", "fetch layers"]);
    assert.ok(parts.at(-1)?.every(({ state, done, total }) => state === "done" && done === total));
    const log = await registry.accessLog();
    assert.deepEqual(log.map(({ method, path }) => `${method} ${path}`).sort(), [
      ...[...image.blobs.keys()]
        .filter((digest) => digest !== image.digest)
        .map((digest) => `GET /v2/team/app/blobs/${digest}`)
        .sort(),
      "GET /v2/team/app/manifests/v1",
    ]);
    await registry.clearLog();
    await puller.pull(reference);
    assert.equal((await registry.accessLog()).length, 1);
    await registry.clearLog();
    assert.equal(await puller.resolve(reference), image.digest);
    assert.deepEqual(
      (await registry.accessLog()).map(({ method, path, userAgent }) => [method, path, userAgent]),
      [["HEAD", "/v2/team/app/manifests/v1", "kiln/test"]],
    );
    await registry.clearLog();
    assert.equal(await puller.resolve(`${registry.host}/team/app@${image.digest}`), image.digest, "a digest needs no request");
    assert.deepEqual(await registry.accessLog(), []);
    await puller.assertClean();
  });
});
