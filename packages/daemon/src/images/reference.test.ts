import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSupportedReference } from "./reference.ts";

test("references to what cannot be fetched yet say so, with a way that works", () => {
  assert.equal(parseSupportedReference("oci:./dir:tag").transport, "oci");
  assert.equal(parseSupportedReference("deb:hello").transport, "deb");
  for (const text of ["alpine", "docker://alpine:3.20", "oci-archive:x.tar", "docker-archive:x.tar"]) {
    assert.throws(() => parseSupportedReference(text), { code: "REFERENCE_INVALID", message: /not supported yet/, hint: /skopeo/ }, text);
  }
  assert.throws(() => parseSupportedReference("no such thing"), { code: "REFERENCE_INVALID" });
});
