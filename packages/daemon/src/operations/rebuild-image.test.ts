import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { open, readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { test } from "node:test";
import { rebuildImageRequest, type OperationView } from "@kiln/protocol";
import { beginRebuildImage } from "./rebuild-image.ts";
import { createRealArtifacts, flipByte, type RealArtifacts } from "./testing/real-artifacts.ts";

const NOBODY = { idempotencyKey: null, caller: "", credentials: {} };
const { signal } = new AbortController();

const begin = ({ core, image }: RealArtifacts): OperationView =>
  beginRebuildImage(core, rebuildImageRequest.parse({ reference: image.reference }), NOBODY);

const rebuild = (real: RealArtifacts): Promise<OperationView> => real.fake.ended(begin(real));

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** Lets tests stop at a checkpoint: the first to come waits, all others pass. */
const gate = (point: string) => {
  const [reached, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let hits = 0;
  const checkpoint = async (name: string): Promise<void> => {
    if (name !== point) return;
    hits += 1;
    reached.resolve();
    await held.promise;
  };
  return { checkpoint, reached: reached.promise, release: () => held.resolve(), hits: () => hits };
};

test("I14 a rebuild puts a whole rootfs in the place of a damaged one, and who has the old one open keeps it", async () => {
  await using real = await createRealArtifacts();
  const { core, image, rootfsPath } = real;
  const good = await readFile(rootfsPath);
  await flipByte(rootfsPath, 5000);
  const damaged = await readFile(rootfsPath);
  await using held = await open(rootfsPath);
  const { state, report, result } = await rebuild(real);
  assert.equal(state, "succeeded");
  assert.deepEqual(report, {
    ...{ kind: "image.rebuild", reference: image.reference, rootfsKey: image.rootfsKey },
    ...{ before: sha256(good), digest: sha256(good), fetched: [] },
  });
  assert.equal(result, sha256(good));
  assert.ok((await readFile(rootfsPath)).equals(good));
  assert.ok((await held.readFile()).equals(damaged), "an open file is not changed");
  const record = core.images.getRootfs(image.rootfsKey);
  assert.ok(record !== null && (await core.rootfsFiles.isWhole(record, { signal })));
  assert.equal(record.fingerprint.ino, String((await stat(rootfsPath)).ino), "the record is of the new file");
  assert.deepEqual(await readdir(real.staging), []);
});

for (const [what, breakIt, code] of [
  ["is damaged", (path: string) => flipByte(path, 40), "IMAGE_CONTENT_MISSING"],
  ["was cut off", (path: string) => truncate(path, 40), "IMAGE_CONTENT_MISSING"],
  ["is missing", (path: string) => rm(path), "IMAGE_CONTENT_MISSING"],
] as const) {
  test(`I14 where a layer ${what} and cannot be had again, the rebuild fails and the old rootfs stays with its record`, async () => {
    await using real = await createRealArtifacts();
    const before = [await stat(real.rootfsPath, { bigint: true }), real.core.images.getRootfs(real.image.rootfsKey)];
    await breakIt(real.layerPath(0));
    const { state, error, report } = await rebuild(real);
    assert.deepEqual([state, error?.code, report], ["failed", code, null]);
    assert.match(error?.hint ?? "", /kiln pull/);
    const after = [await stat(real.rootfsPath, { bigint: true }), real.core.images.getRootfs(real.image.rootfsKey)];
    assert.deepEqual(after, before);
    assert.deepEqual(await readdir(real.staging), []);
    assert.equal(real.core.leases.active, 0);
  });
}

test("I14 a build that fails halfway leaves the old rootfs", async () => {
  const held = gate("rebuild.begun");
  await using real = await createRealArtifacts(held);
  const before = await stat(real.rootfsPath, { bigint: true });
  const operation = begin(real);
  await held.reached;
  await flipByte(real.layerPath(1), 40); // after the blobs were checked
  held.release();
  assert.equal((await real.fake.ended(operation)).error?.code, "LAYER_INVALID");
  assert.deepEqual(await stat(real.rootfsPath, { bigint: true }), before);
  assert.deepEqual(await readdir(real.staging), []);
});

test("I14 whoever wants the rootfs while it is built again gets a whole one, the old or the new, and waits for nobody", async () => {
  const held = gate("rebuild.published");
  await using real = await createRealArtifacts(held);
  const { core, image, rootfsPath } = real;
  const digest = sha256(await readFile(rootfsPath));
  const operation = begin(real);
  await held.reached; // the file is new, its record is the old one's
  const during = await Promise.all(Array.from({ length: 8 }, () => core.pipeline.ensureRootfs(image, { signal })));
  assert.deepEqual(new Set(during.map((record) => record.digest)), new Set([digest]));
  assert.equal(sha256(await readFile(rootfsPath)), digest);
  held.release();
  assert.equal((await real.fake.ended(operation)).state, "succeeded");
  const record = await core.pipeline.ensureRootfs(image, { signal });
  assert.equal(record.digest, digest);
  const builds = core.operations.list({ all: true }).filter(({ kind }) => kind === "rootfs.build");
  assert.equal(builds.length, 1, "the first build, before all this");
});

test("I1 I12 rebuilds of one image at once are one build; I11 who leaves does not stop it", async () => {
  const held = gate("rebuild.begun");
  await using real = await createRealArtifacts(held);
  const operations = Array.from({ length: 6 }, () => begin(real));
  await held.reached;
  const works = () => real.core.operations.list({ all: true }).filter(({ kind }) => kind === "rootfs.rebuild");
  while (works().length < 6) await new Promise((resolve) => setImmediate(resolve));
  const leader = works().find(({ joined }) => joined === null);
  real.core.operations.cancel(leader?.parent ?? "");
  held.release();
  const states = (await Promise.all(operations.map((one) => real.fake.ended(one)))).map(({ state }) => state);
  assert.equal(states.filter((state) => state === "succeeded").length, 5);
  assert.equal(states.filter((state) => state === "cancelled").length, 1);
  assert.equal(held.hits(), 1);
});

test("I13 a rebuild that fails tells all who waited why, and the next one starts afresh", async () => {
  const held = gate("rebuild.begun");
  await using real = await createRealArtifacts(held);
  const layer = real.layerPath(0);
  const operations = [begin(real), begin(real), begin(real)];
  while (real.core.operations.list({ all: true }).filter(({ kind }) => kind === "rootfs.rebuild").length < 3) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  await flipByte(layer, 40);
  held.release();
  const ended = await Promise.all(operations.map((one) => real.fake.ended(one)));
  assert.deepEqual(new Set(ended.map(({ error }) => error?.code)), new Set(["LAYER_INVALID"]));
  await flipByte(layer, 40);
  assert.equal((await rebuild(real)).state, "succeeded");
});
