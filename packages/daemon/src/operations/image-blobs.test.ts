import assert from "node:assert/strict";
import { rm, truncate } from "node:fs/promises";
import { test } from "node:test";
import type { ContentStore } from "../content/content-store.ts";
import type { VmRecord } from "../vms/record.ts";
import { blobsOfVms } from "./image-blobs.ts";
import { blobsOf } from "./report-images.ts";
import { createRealArtifacts, flipByte, type RealArtifacts } from "./testing/real-artifacts.ts";

/** What is kept for a VM of the image, to which no name leads. */
const kept = async ({ core, image }: RealArtifacts): Promise<readonly string[] | undefined> => {
  const content = core.blobs as unknown as ContentStore & typeof core.content;
  const vm = { image: image.reference, imageDigest: image.image.manifestDigest } as unknown as VmRecord;
  const images = { ...core.images, listImages: () => [] };
  return (await blobsOfVms({ images, content, platform: core.platform }, [vm])).get(image.image.manifestDigest);
};

test("what is found of the image of a VM is kept, whole or damaged, and stops no sweep; nothing is of one of which blobs are gone", async () => {
  await using real = await createRealArtifacts();
  const { image, layerPath, blobPath } = real;
  const all = blobsOf(image).toSorted();
  assert.deepEqual((await kept(real))?.toSorted(), all);
  await truncate(layerPath(1), 1);
  assert.deepEqual((await kept(real))?.toSorted(), all);
  await flipByte(blobPath(image.image.manifestDigest), 0);
  assert.deepEqual(await kept(real), [image.image.manifestDigest], "no manifest says what else there is");
  await rm(blobPath(image.image.manifestDigest));
  assert.deepEqual(await kept(real), []);
});
