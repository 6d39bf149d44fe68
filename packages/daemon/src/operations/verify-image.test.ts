import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { test } from "node:test";
import type { ImageVerification, OperationView } from "@kiln/protocol";
import { fileFingerprint } from "@kiln/std/node";
import { createRealArtifacts, flipByte, type RealArtifacts } from "./testing/real-artifacts.ts";
import { beginRebuildImage } from "./rebuild-image.ts";
import { beginVerifyImage } from "./verify-image.ts";

const NOBODY = { idempotencyKey: null, caller: "" };
const SOMEWHERE_IN_DATA = 66 * 4096;

const begin = ({ core, image }: RealArtifacts): OperationView => beginVerifyImage(core, { reference: image.reference }, NOBODY);

const verify = async (real: RealArtifacts): Promise<{ operation: OperationView; report: ImageVerification }> => {
  const operation = await real.fake.ended(begin(real));
  assert.equal(operation.report?.kind, "image.verify");
  return { operation, report: operation.report };
};

const sha256 = async (path: string): Promise<string> =>
  `sha256:${createHash("sha256")
    .update(await readFile(path))
    .digest("hex")}`;

/** What is damaged in which way, what stat says of it, and what verify finds. */
const DAMAGES: readonly {
  readonly what: string;
  readonly damage: (path: string) => Promise<void>;
  readonly found: RegExp;
  readonly difference: { readonly offset: number; readonly place: RegExp } | null;
}[] = [
  { what: "missing", damage: (path) => rm(path), found: /its rootfs is missing/, difference: null },
  {
    what: "short",
    damage: (path) => truncate(path, SOMEWHERE_IN_DATA + 1),
    found: /its rootfs is sha256:[0-9a-f]{64} and was sha256:/,
    difference: { offset: SOMEWHERE_IN_DATA + 1, place: /data of a file/ },
  },
  {
    what: "changed with the same size and mtime",
    damage: (path) => flipByte(path, SOMEWHERE_IN_DATA),
    found: /at 270336: block 66, data of a file/,
    difference: { offset: SOMEWHERE_IN_DATA, place: /^block 66, data of a file or a directory$/ },
  },
  {
    what: "changed in its superblock",
    damage: (path) => flipByte(path, 1024 + 0x68),
    found: /the superblock/,
    difference: { offset: 1024 + 0x68, place: /^the superblock$/ },
  },
];

for (const { what, damage, found, difference } of DAMAGES) {
  test(`I7 verify finds a rootfs that is ${what}, says where, and changes nothing`, async () => {
    await using real = await createRealArtifacts();
    const recorded = await sha256(real.rootfsPath);
    assert.deepEqual((await verify(real)).report, { ...(await expected(real)), recorded, found: recorded, rebuilt: recorded });
    await damage(real.rootfsPath);
    const before = await fileFingerprint(real.rootfsPath);
    const { operation, report } = await verify(real);
    assert.deepEqual([operation.state, operation.error?.code], ["failed", "ARTIFACT_DAMAGED"]);
    assert.match(operation.error?.detail ?? "", found);
    assert.match(operation.error?.hint ?? "", /kiln image rebuild oci:\/layout:one/);
    assert.deepEqual([report.ok, report.recorded, report.rebuilt], [false, recorded, recorded]);
    assert.equal(report.difference?.offset, difference?.offset);
    if (difference !== null) assert.match(report.difference?.place ?? "", difference.place);
    assert.deepEqual(await fileFingerprint(real.rootfsPath), before, "the file is as it was");
    assert.notEqual(real.core.images.getRootfs(real.image.rootfsKey), null, "its record too");
    assert.deepEqual(await readdir(real.staging), []);
  });
}

const expected = async ({ core, image, blobPath }: RealArtifacts) => {
  const layers = image.image.layers.map(({ digest, size }) => ({ digest, kind: "layer", sizeBytes: size, state: "whole" }));
  const documents = [image.root, image.image.configDigest].map((digest) => ({ digest, kind: "document", sizeBytes: null, state: "whole" }));
  for (const { digest } of layers) assert.equal(await sha256(blobPath(digest)), digest);
  assert.equal(core.images.listImages().length, 1);
  return {
    ...{ kind: "image.verify", reference: image.reference, digest: image.image.manifestDigest, rootfsKey: image.rootfsKey },
    ...{ difference: null, blobs: [...documents, ...layers], ok: true },
  };
};

test("I7 verify finds what stat cannot show: a file that looks as it was recorded", async () => {
  await using real = await createRealArtifacts();
  const { core, image, rootfsPath } = real;
  await flipByte(rootfsPath, SOMEWHERE_IN_DATA);
  const [record, fingerprint] = [core.images.getRootfs(image.rootfsKey), await fileFingerprint(rootfsPath)];
  assert.ok(record !== null && fingerprint !== null);
  core.images.putRootfs({ ...record, fingerprint });
  assert.equal(await core.rootfsFiles.isWhole({ ...record, fingerprint }, { signal: new AbortController().signal }), true);
  assert.equal((await verify(real)).report.ok, false);
});

test("I7 verify finds a blob that is missing or has other bytes of the same size, and does not build from it", async () => {
  await using real = await createRealArtifacts();
  const [lower, upper] = real.image.image.layers;
  assert.ok(lower !== undefined && upper !== undefined);
  await flipByte(real.blobPath(lower.digest), 40);
  await rm(real.blobPath(real.image.image.configDigest));
  const { operation, report } = await verify(real);
  const states = new Map(report.blobs.map(({ digest, state }) => [digest, state]));
  assert.deepEqual([states.get(lower.digest), states.get(upper.digest)], ["damaged", "whole"]);
  assert.equal(states.get(real.image.image.configDigest), "missing");
  assert.deepEqual([report.rebuilt, report.found === report.recorded, report.ok], [null, true, false]);
  assert.match(operation.error?.detail ?? "", new RegExp(`the layer ${lower.digest} is damaged`));
  assert.equal((await stat(real.blobPath(lower.digest))).size, lower.size, "it lies where it lay");
});

test("I1 verifies of one image at once do the work once, each with its own operation and report", async () => {
  const all = Promise.withResolvers<void>();
  let begun = 0;
  await using real = await createRealArtifacts({
    checkpoint: async (name) => {
      if (name !== "check.begun") return;
      begun += 1;
      await all.promise;
    },
  });
  const operations = Array.from({ length: 8 }, () => begin(real));
  const joiners = () => real.core.operations.list({ all: true }).filter(({ kind, joined }) => kind === "image.check" && joined !== null);
  while (joiners().length < 7) await new Promise((resolve) => setImmediate(resolve));
  all.resolve();
  const ended = await Promise.all(operations.map((one) => real.fake.ended(one)));
  assert.equal(begun, 1);
  assert.deepEqual(new Set(ended.map(({ state }) => state)), new Set(["succeeded"]));
  assert.equal(new Set(ended.map(({ id }) => id)).size, 8);
  for (const { report } of ended) assert.ok(report?.kind === "image.verify" && report.ok);
});

test("I11 a verify that is cancelled leaves nothing behind", async () => {
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  await using real = await createRealArtifacts({
    checkpoint: async (name) => {
      if (name !== "check.begun") return;
      reached.resolve();
      await held.promise;
    },
  });
  const operation = begin(real);
  await reached.promise;
  real.core.operations.cancel(operation.id);
  held.resolve();
  assert.equal((await real.fake.ended(operation)).state, "cancelled");
  assert.deepEqual(await readdir(real.staging), []);
  assert.equal(real.core.leases.active, 0);
});

test("who asks again under a key gets the operation that it began, also when the image is gone by then", async () => {
  await using real = await createRealArtifacts();
  const { core, fake, image } = real;
  const { reference } = image;
  const key = (idempotencyKey: string) => ({ idempotencyKey, caller: "", credentials: {} });
  const begins = [
    () => beginVerifyImage(core, { reference }, key("one")),
    () => beginRebuildImage(core, { reference, plainHttp: false }, key("two")),
  ];
  const begun: OperationView[] = [];
  for (const one of begins) begun.push(await fake.ended(one()));
  assert.deepEqual(
    begun.map(({ state }) => state),
    ["succeeded", "succeeded"],
  );
  core.images.removeImage(reference);
  assert.deepEqual(
    begins.map((one) => one().id),
    begun.map(({ id }) => id),
  );
});
