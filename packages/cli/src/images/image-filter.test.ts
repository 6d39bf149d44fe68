import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { anImage } from "@kiln/sdk/testing";
import { matchesImage } from "./image-filter.ts";

const digest = `sha256:${"ab".repeat(32)}`;

describe("the argument of images is docker's", () => {
  const table: readonly [string, string, boolean][] = [
    ["alpine", "docker.io/library/alpine:3", true],
    ["alpine", `docker.io/library/alpine@${digest}`, true],
    ["docker.io/library/alpine", "docker.io/library/alpine:latest", true],
    ["alpine:3", "docker.io/library/alpine:3", true],
    ["alpine:3", "docker.io/library/alpine:3.1", false],
    ["alpine", "docker.io/library/alpine-slim:3", false],
    ["alpine", "localhost/alpine:3", false],
    ["alp", "docker.io/library/alpine:3", false],
    ["host:5000/a", "host:5000/a:1", true],
    ["host:5000/a:1", "host:5000/a:2", false],
    [`alpine@${digest}`, `docker.io/library/alpine@${digest}`, true],
    ["oci:./x:1", "oci:./x:1", true],
    ["oci:./x", "oci:./x:1", false],
    ["deb:busybox", "deb:busybox", true],
    ["A B", "A B", true],
  ];
  for (const [text, reference, matches] of table) {
    test(`${text} ${matches ? "means" : "does not mean"} ${reference}`, () => {
      assert.equal(matchesImage(text)(anImage({ reference })), matches);
    });
  }
  test("a digest or twelve digits of it mean the image", () => {
    const image = anImage({ reference: "deb:x", digest });
    assert.deepEqual(
      [digest, digest.slice(7), "abababababab", "ababab", "bababababab1"].map((text) => matchesImage(text)(image)),
      [true, true, true, false, false],
    );
  });
});
