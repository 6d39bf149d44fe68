import assert from "node:assert/strict";
import { test } from "node:test";
import type { ImageRecord } from "../images/records.port.ts";
import { createRealArtifacts } from "../operations/testing/real-artifacts.ts";
import { Pipeline, type WantedImage } from "./pipeline.ts";

const { signal } = new AbortController();
const REFERENCE = "docker.io/library/mine:1";

test("a registered image whose file is gone is said to be so; no registry is asked for what it has under that name, unless a person pulls it", async () => {
  await using real = await createRealArtifacts();
  const { core, image } = real;
  const { work, clock, images, kernels, leases, rootfsFiles, kernelSets, checkpoint, platform } = core;
  const asked: string[] = [];
  const pipeline = new Pipeline({
    ...{ work, clock, images, kernels, leases, rootfsFiles, kernelSets, checkpoint, platform },
    sources: [
      {
        accepts: () => true,
        resolve: async () => null,
        fetch: async (reference) => {
          asked.push(reference);
          return { image: image.image, root: image.root };
        },
      },
    ],
    content: { isComplete: async () => false },
    rootfsKey: () => image.rootfsKey,
    distinguish: (secret) => secret,
  });
  const layers = image.image.layers.slice(0, 1).map((layer) => ({ ...layer, format: "ext4" as const }));
  const record: ImageRecord = { ...image, reference: REFERENCE, image: { ...image.image, layers }, rootfsKey: "e".repeat(64) };
  images.putImage(record);
  using lease = leases.begin();
  const wanted: WantedImage = { ...{ reference: "mine:1", pull: "missing", lease }, platform: null, plainHttp: false, credentials: {} };
  await assert.rejects(pipeline.ensureImage(wanted, { signal }), { code: "IMAGE_CONTENT_MISSING", hint: /kiln image register/ });
  assert.deepEqual([asked, images.getImage(REFERENCE)?.rootfsKey], [[], record.rootfsKey]);
  assert.equal((await pipeline.ensureImage({ ...wanted, pull: "always" }, { signal })).rootfsKey, image.rootfsKey);
  assert.deepEqual(asked, [REFERENCE]);
});
