import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import { KilnError, type OperationPart, type Progress } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import type { ShareBlob } from "../images/ports.ts";
import { createImage, Puller } from "./testing/pulling.ts";
import { isBlob, REPOSITORY } from "./testing/scene.ts";
import { refusal, ScriptedRegistry, type Script } from "./testing/scripted-registry.ts";

const images = (count: number, layers: number) =>
  Array.from({ length: count }, () => createImage(Array.from({ length: layers }, () => randomBytes(1000))));

/** Answers blobs only once `count` of them are being asked for, so that they are known to overlap. */
const gate = (count: number): Script => {
  const open = new Deferred<void>();
  let there = 0;
  return (asked, honest) => {
    if (!isBlob(asked)) return honest;
    there += 1;
    if (there >= count) open.resolve();
    return { ...honest, after: open.promise };
  };
};

suite("fair limits", { concurrency: true }, () => {
  test("a pull fetches three blobs at once, and no more", async () => {
    await using registry = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const [image] = images(1, 12);
    assert.ok(image);
    registry.serve(REPOSITORY, "v1", image);
    registry.script = gate(3);
    await puller.pull(`${registry.host}/${REPOSITORY}:v1`);
    assert.equal(registry.busiest, 3);
  });

  test("a host gives six blobs at once, whoever asks, and another host is not waited for", async () => {
    await using registry = await ScriptedRegistry.start();
    await using other = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const all = images(5, 4);
    const held = new Deferred<void>();
    registry.script = (asked, honest) => (isBlob(asked) ? { ...honest, after: held.promise } : honest);
    for (const [n, image] of all.entries()) registry.serve(REPOSITORY, `v${n}`, image);
    const pulls = all.map((_image, n) => puller.pull(`${registry.host}/${REPOSITORY}:v${n}`));
    while (registry.busiest < 6) await new Promise((resolve) => setTimeout(resolve, 2));
    const [elsewhere] = images(1, 4);
    assert.ok(elsewhere);
    other.serve(REPOSITORY, "v1", elsewhere);
    await puller.pull(`${other.host}/${REPOSITORY}:v1`);
    assert.equal(registry.busiest, 6);
    held.resolve();
    await Promise.all(pulls);
    assert.equal(registry.busiest, 6);
    assert.equal(registry.asked.filter(isBlob).length, 5 * 5);
  });

  test("whoever pauses keeps nobody waiting", async () => {
    await using registry = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const all = images(3, 3);
    for (const [n, image] of all.entries()) registry.serve(REPOSITORY, `v${n}`, image);
    const slow = new Set([...(all[0]?.blobs.keys() ?? []), ...(all[1]?.blobs.keys() ?? [])]);
    const told = new Set<string>();
    registry.script = (asked, honest) => {
      const digest = asked.path.split("/").at(-1) ?? "";
      if (!isBlob(asked) || !slow.has(digest as never) || told.has(digest)) return honest;
      told.add(digest);
      return { ...refusal(503, "BUSY", ""), headers: { "retry-after": "2" } };
    };
    const paused = [0, 1].map((n) => puller.pull(`${registry.host}/${REPOSITORY}:v${n}`));
    while (told.size < 6) await new Promise((resolve) => setTimeout(resolve, 2));
    const begunMs = performance.now();
    await puller.pull(`${registry.host}/${REPOSITORY}:v2`);
    assert.ok(performance.now() - begunMs < 1800);
    await Promise.all(paused);
  });
});

suite("transfers that are shared", { concurrency: true }, () => {
  test("forty pulls at once fetch each blob once", async () => {
    await using registry = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const base = randomBytes(50_000);
    const all = Array.from({ length: 4 }, () => createImage([base, randomBytes(2000)]));
    for (const [n, image] of all.entries()) registry.serve(REPOSITORY, `v${n}`, image);
    registry.script = (asked, honest) => (isBlob(asked) ? { ...honest, trickle: { bytes: 5000, everyMs: 1 } } : honest);
    await Promise.all(Array.from({ length: 40 }, (_, n) => puller.pull(`${registry.host}/${REPOSITORY}:v${n % 4}`)));
    for (const digest of all.flatMap((image) => [...image.blobs.keys()].filter((one) => one !== image.digest)))
      assert.equal(registry.count(digest), 1, digest);
    await puller.assertClean();
  });

  test("one who leaves disturbs nobody; when the last leaves the transfer has stopped", async () => {
    await using registry = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const image = createImage([randomBytes(100_000)]);
    registry.serve(REPOSITORY, "v1", image);
    registry.script = (asked, honest) => (isBlob(asked) ? { ...honest, trickle: { bytes: 2000, everyMs: 4 } } : honest);
    const reference = `${registry.host}/${REPOSITORY}:v1`;
    const [first, second] = [new AbortController(), new AbortController()];
    const begun = new Deferred<void>();
    const onProgress = ({ done }: Progress): void => void (done > 0 && begun.resolve());
    const leaving = puller.pull(reference, { signal: first.signal, onProgress });
    const staying = puller.pull(reference, { signal: second.signal });
    await begun.promise;
    first.abort(new KilnError("CANCELLED", "left"));
    await assert.rejects(leaving, { code: "CANCELLED" });
    await staying;
    assert.equal(registry.asked.filter(isBlob).length, 2);
    for (const digest of await puller.stored()) await puller.content.remove(digest);
    const third = new AbortController();
    const stopping = puller.pull(reference, {
      signal: third.signal,
      onProgress: ({ done }) => void (done > 4000 && third.abort(new KilnError("CANCELLED", "left"))),
    });
    await assert.rejects(stopping, { code: "CANCELLED" });
    await puller.assertClean();
    assert.equal((await puller.stored()).includes(image.digest), true);
  });

  test("who joins a stranger's transfer does not inherit its failure", async () => {
    await using broken = await ScriptedRegistry.start();
    await using good = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const image = createImage([randomBytes(5000)]);
    const joined = new Deferred<void>();
    broken.serve(REPOSITORY, "v1", image);
    good.serve(REPOSITORY, "v1", image);
    broken.script = (asked) =>
      isBlob(asked) ? { ...refusal(403, "DENIED", "no"), after: joined.promise } : { status: 200, body: image.manifest };
    const failing = puller.pull(`${broken.host}/${REPOSITORY}:v1`);
    while (broken.asked.filter(isBlob).length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    const late = puller.pull(`${good.host}/${REPOSITORY}:v1`);
    while (good.asked.length < 1) await new Promise((resolve) => setTimeout(resolve, 2));
    setTimeout(() => joined.resolve(), 30);
    await assert.rejects(failing, { code: "REGISTRY_UNAUTHORIZED" });
    await late;
    assert.equal(good.asked.filter(isBlob).length, 2);
  });

  test("who only ever joins failures fetches alone in the end", async () => {
    await using registry = await ScriptedRegistry.start();
    await using puller = await Puller.open();
    const image = createImage([randomBytes(5000)]);
    registry.serve(REPOSITORY, "v1", image);
    let n = 0;
    const share: ShareBlob = () => {
      n += 1;
      return Promise.reject(new KilnError("REGISTRY_UNREACHABLE", "somebody else's registry"));
    };
    await puller.pull(`${registry.host}/${REPOSITORY}:v1`, { share });
    assert.equal(n, 4);
    assert.deepEqual(await puller.stored(), [...image.blobs.keys()].sort());
  });
});

test("progress: layers with their states in order, bytes over all of them, present ones counted, at most ten times a second", async () => {
  await using registry = await ScriptedRegistry.start();
  await using puller = await Puller.open();
  const [shared, large] = [randomBytes(3000), randomBytes(60_000)];
  registry.serve(REPOSITORY, "base", createImage([shared]));
  const image = createImage([shared, large, shared]);
  registry.serve(REPOSITORY, "v1", image);
  await puller.pull(`${registry.host}/${REPOSITORY}:base`);
  registry.script = (asked, honest) => (isBlob(asked) ? { ...honest, trickle: { bytes: 1000, everyMs: 5 } } : honest);
  const told: { readonly parts: readonly OperationPart[]; readonly progress: Progress; readonly atMs: number }[] = [];
  let latest: Progress = { done: 0, total: null, unit: "" };
  await puller.pull(`${registry.host}/${REPOSITORY}:v1`, {
    onProgress: (progress) => void (latest = progress),
    onParts: (parts) => void told.push({ parts, progress: latest, atMs: performance.now() }),
  });
  assert.deepEqual(
    told[0]?.parts.map(({ state }) => state),
    ["present", "waiting", "present"],
  );
  assert.deepEqual(
    told.at(-1)?.parts.map(({ state, done }) => [state, done]),
    [
      ["present", 3000],
      ["done", 60_000],
      ["present", 3000],
    ],
  );
  assert.deepEqual(told.at(-1)?.progress, { done: 66_000, total: 66_000, unit: "bytes" });
  const done = told.map(({ progress }) => progress.done);
  assert.ok(done.length > 3 && done[0] === 6000);
  assert.deepEqual(
    done,
    done.toSorted((a, b) => a - b),
  );
  const tookMs = (told.at(-1)?.atMs ?? 0) - (told[0]?.atMs ?? 0);
  assert.ok(told.length <= 3 + tookMs / 95, `${told.length} times in ${tookMs} ms`);
  await puller.pull(`${registry.host}/${REPOSITORY}:v1`, { onParts: (parts) => void told.push({ parts, progress: latest, atMs: 0 }) });
  assert.deepEqual(
    told.at(-1)?.parts.map(({ state }) => state),
    ["present", "present", "present"],
  );
});
