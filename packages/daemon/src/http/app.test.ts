import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { ROUTES } from "@kiln/protocol/routes";
import { generateOpenApi, OPENAPI_PATH } from "../../../../scripts/generate-openapi.ts";
import { createApp } from "./app.ts";
import type { ApiParts } from "./parts.ts";

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** An app around parts that only this test's requests reach. */
const app = (core: object = {}) => createApp({ core: { journal: silent, ...core } } as unknown as ApiParts);

test("the committed api/openapi.json is what the schemas say", () => {
  assert.equal(readFileSync(OPENAPI_PATH, "utf8"), generateOpenApi(), "run scripts/node scripts/generate-openapi.ts");
});

test("the app serves the routes of the table, and no others", () => {
  const served = app().routes.filter((route) => route.method !== "ALL");
  const names = (list: readonly { method: string; path: string }[]) => list.map((one) => `${one.method.toLowerCase()} ${one.path}`).sort();
  assert.deepEqual(names(served), names(ROUTES));
});

test("an error is a problem document with its status, code and hint", async () => {
  const vms = {
    find: () => {
      throw new KilnError("VM_NOT_FOUND", "there is no VM x", { object: "x" });
    },
  };
  const answer = await app({ vms }).request("/v1/vms/x");
  assert.equal(answer.status, 404);
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  const problem = (await answer.json()) as Record<string, unknown>;
  assert.equal(problem["code"], "VM_NOT_FOUND");
  assert.equal(problem["object"], "x");
  assert.equal(typeof problem["hint"], "string");
});

test("a name in a path is decoded once, whatever is in it", async () => {
  const asked: string[] = [];
  const images = { getImage: (name: string) => (asked.push(name), null), listImages: () => [] };
  const names = ["oci:./100%:one", "oci:./a%41:one", "oci:./a%252f/b:one", "docker.io/library/mine:1"];
  for (const name of names) {
    for (const path of ["images", "bundles"]) {
      const answer = await app({ images }).request(`/v1/${path}/${encodeURIComponent(name)}`);
      assert.equal(((await answer.json()) as { code: string }).code, "IMAGE_NOT_FOUND", name);
      assert.equal(asked.at(-1), name);
    }
  }
});

test("a request that does not fit its schema is refused with the field's name", async () => {
  const body = JSON.stringify({ image: "deb:x", memoryBytes: 5 });
  const answer = await app().request("/v1/vms", { method: "POST", body });
  assert.equal(answer.status, 400);
  assert.match(((await answer.json()) as { detail: string }).detail, /memoryBytes/);
});

test("what is no JSON, no route or too large is refused", async () => {
  assert.equal((await app().request("/v1/vms", { method: "POST", body: "{" })).status, 400);
  assert.equal((await app().request("/v1/nothing")).status, 404);
  assert.equal((await app().request("/v1/vms", { method: "POST", body: "{}", headers: { "content-length": "999999999" } })).status, 413);
});
