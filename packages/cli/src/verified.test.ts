import assert from "node:assert/strict";
import { test } from "node:test";
import type { ImageVerification } from "@kiln/protocol";
import { anOperation, StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "./testing/kiln-process.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;
const whole: ImageVerification = {
  ...{ kind: "image.verify", reference: "deb:whole", digest: DIGEST, rootfsKey: "b".repeat(64), ok: true },
  ...{ recorded: DIGEST, found: DIGEST, rebuilt: DIGEST, difference: null, blobs: [] },
};

const listen = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  const operation = anOperation({ kind: "image.verify", subject: whole.reference, report: whole });
  stub.on("POST", "/v1/images/verify", ({ body }) => {
    const { reference } = JSON.parse(body.toString()) as { reference: string };
    if (reference === whole.reference) return { json: operation, status: 202 };
    return { problem: "IMAGE_NOT_FOUND", detail: `there is no image ${reference}` };
  });
  stub.on("GET", /^\/v1\/operations\/(.+)$/, () => ({ json: operation }));
  return stub;
};

test("image verify of several images tells of each that fails, and ends with 1", async () => {
  await using stub = await listen();
  const { home } = stub;
  const { stdout, stderr, exitCode } = await kiln(["image", "verify", "one", "deb:whole", "two"], { home });
  assert.equal(exitCode, 1);
  assert.match(stdout, /^deb:whole\n {2}whole/);
  assert.match(stderr, /no image one\b[^]*no image two\b/);
  const json = await kiln(["image", "verify", "--json", "one", "deb:whole", "two"], { home });
  assert.equal(json.exitCode, 1);
  assert.deepEqual(JSON.parse(json.stdout), [whole]);
  const problem = JSON.parse(json.stderr) as { code: string };
  assert.equal(problem.code, "IMAGE_NOT_FOUND");
  assert.match(json.stderr, /no image one\b[^]*no image two\b/);
});
