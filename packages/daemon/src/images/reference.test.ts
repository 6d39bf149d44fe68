import assert from "node:assert/strict";
import { test } from "node:test";
import type { ImageRecord } from "./records.port.ts";
import { canonicalReference, findImage } from "./reference.ts";

const DIGESTS = ["a".repeat(64), `${"a".repeat(20)}${"b".repeat(44)}`, "c".repeat(64)];
const NAMES = ["docker.io/library/one:latest", "docker.io/library/two:latest", "deb:hello"];

const shelf = () => {
  const records = NAMES.map(
    (reference, index) => ({ reference, image: { manifestDigest: `sha256:${DIGESTS[index]}` } }) as unknown as ImageRecord,
  );
  return { listImages: () => records, getImage: (name: string) => records.find((one) => one.reference === name) ?? null };
};

test("docker's short names are written out, other transports stay as they are", () => {
  assert.equal(canonicalReference("alpine"), "docker.io/library/alpine:latest");
  assert.equal(canonicalReference("docker://alpine:3.20"), "docker.io/library/alpine:3.20");
  for (const text of ["oci:./dir:tag", "deb:hello", "oci-archive:x.tar", "docker-archive:x.tar"])
    assert.equal(canonicalReference(text), text);
  assert.throws(() => canonicalReference("no such thing"), { code: "REFERENCE_INVALID" });
});

test("an image is found by its name in any form, and by the beginning of its digest", () => {
  const find = (text: string): string | undefined => findImage(text, shelf())?.reference;
  assert.equal(find("one"), NAMES[0]);
  assert.equal(find("docker.io/library/two:latest"), NAMES[1]);
  assert.equal(find("deb:hello"), "deb:hello");
  assert.equal(find(`sha256:${"c".repeat(12)}`), "deb:hello");
  assert.equal(find("c".repeat(64)), "deb:hello");
  assert.equal(find("d".repeat(12)), undefined);
  assert.equal(find("three"), undefined);
  assert.throws(() => find("a".repeat(12)), { code: "REFERENCE_INVALID", message: /several/ });
});
