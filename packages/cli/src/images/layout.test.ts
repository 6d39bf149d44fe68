import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import { openLayout, parseLayoutReference } from "./layout.ts";

let root = "";
before(async () => {
  root = await mkdtemp(join(tmpdir(), "kiln-layout-"));
  for (const name of ["plain", "with:colon", "deep/er"]) await mkdir(join(root, name, "blobs/sha256"), { recursive: true });
});
after(() => rm(root, { recursive: true }));

const has = (code: ErrorCode) => (error: unknown) => error instanceof KilnError && error.code === code;

describe("an oci: reference is a directory and a tag", () => {
  const table: readonly [string, string, string | null][] = [
    ["oci:plain", "plain", null],
    ["oci:plain:1.0", "plain", "1.0"],
    ["oci:plain:", "plain", null],
    ["oci:./deep/er:v1", "./deep/er", "v1"],
    ["oci:plain:docker.io/library/alpine:latest", "plain", "docker.io/library/alpine:latest"],
    ["oci:with:colon", "with:colon", null],
    ["oci:with:colon:tag", "with:colon", "tag"],
    ["oci:missing:tag", "missing", "tag"],
  ];
  for (const [reference, path, tag] of table) {
    test(reference, async () => assert.deepEqual(await parseLayoutReference(reference, root), { path, tag, reference }));
  }
  test("one without a directory is refused", async () => {
    await assert.rejects(parseLayoutReference("oci:", root), has("REFERENCE_INVALID"));
    await assert.rejects(parseLayoutReference("oci::tag", root), has("REFERENCE_INVALID"));
  });
});

describe("a layout is opened", () => {
  const openAt = async (reference: string) => openLayout(await parseLayoutReference(reference, root), root);
  test("a missing directory is IMAGE_SOURCE_MISSING", () => assert.rejects(openAt("oci:./nowhere"), has("IMAGE_SOURCE_MISSING")));
  test("what is no layout is IMAGE_INVALID", async () => {
    await writeFile(join(root, "file"), "x");
    await assert.rejects(openAt("oci:file"), has("IMAGE_INVALID"));
    await assert.rejects(openAt("oci:plain"), /no oci-layout file/);
    await writeFile(join(root, "plain/oci-layout"), '{"imageLayoutVersion":"2.0.0"}');
    await assert.rejects(openAt("oci:plain"), has("IMAGE_INVALID"));
    await writeFile(join(root, "plain/oci-layout"), "{");
    await assert.rejects(openAt("oci:plain"), has("IMAGE_INVALID"));
    await writeFile(join(root, "plain/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await assert.rejects(openAt("oci:plain"), /no index.json/);
  });
  test("only blobs by their digests are read", async () => {
    await writeFile(join(root, "deep/er/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(join(root, "deep/er/index.json"), '{"manifests":[]}');
    await writeFile(join(root, "deep/er/blobs/sha256", "a".repeat(64)), "blob");
    const layout = await openAt("oci:deep/er");
    assert.equal(Buffer.from(layout.index).toString(), '{"manifests":[]}');
    const blob = await layout.readBlob(`sha256:${"a".repeat(64)}`);
    assert.equal(blob.sizeBytes, 4);
    let text = "";
    for await (const chunk of blob.open()) text += Buffer.from(chunk).toString();
    assert.equal(text, "blob");
    await assert.rejects(layout.readBlob(`sha256:${"b".repeat(64)}`), has("IMAGE_INVALID"));
    for (const digest of ["sha256:../../index.json", "../index.json", `sha512:${"a".repeat(64)}`, ""])
      await assert.rejects(layout.readBlob(digest), has("IMAGE_INVALID"));
  });
});
