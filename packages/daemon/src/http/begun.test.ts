import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { test } from "node:test";
import type { OperationView } from "@kiln/protocol";
import { ROUTES } from "@kiln/protocol/routes";
import { createFakeCore } from "../operations/testing/fake-core.ts";
import { createApp } from "./app.ts";
import type { ApiParts } from "./parts.ts";

const requests = { find: () => null, begin: () => undefined, answer: () => undefined, forget: () => undefined };

const FILE_SYSTEM = Buffer.from("a file system");
const ROOTFS = `sha256:${createHash("sha256").update(FILE_SYSTEM).digest("hex")}`;

/** Those that need a guest which writes to its disk: `derived-images.test.ts` asks them of a whole daemon. */
const WITH_GUESTS: readonly string[] = ["/v1/images/promote", "/v1/images/customize"];

const BEGIN: readonly { readonly method: string; readonly path: string; readonly url: string; readonly body?: string }[] = [
  { method: "post", path: "/v1/scrub", url: "/v1/scrub" },
  { method: "post", path: "/v1/kernels/warm", url: "/v1/kernels/warm", body: "{}" },
  { method: "post", path: "/v1/images/pull", url: "/v1/images/pull", body: '{"reference":"deb:fake"}' },
  { method: "post", path: "/v1/images/register", url: "/v1/images/register", body: JSON.stringify({ name: "mine", rootfs: ROOTFS }) },
  { method: "post", path: "/v1/images/verify", url: "/v1/images/verify", body: '{"reference":"deb:fake"}' },
  { method: "post", path: "/v1/images/rebuild", url: "/v1/images/rebuild", body: '{"reference":"mine"}' },
  { method: "post", path: "/v1/vms", url: "/v1/vms", body: '{"image":"deb:fake","name":"web","command":["sleep","1000"]}' },
  { method: "post", path: "/v1/vms/:vm/start", url: "/v1/vms/web/start" },
  { method: "post", path: "/v1/vms/:vm/stop", url: "/v1/vms/web/stop", body: "{}" },
  { method: "delete", path: "/v1/vms/:vm", url: "/v1/vms/web?force=true" },
];

test("every route that begins an operation answers 202, or with wait=true 200 once it has succeeded", async () => {
  assert.deepEqual(
    ROUTES.filter(({ repeat, path }) => repeat === "operation" && !WITH_GUESTS.includes(path)).map(({ method, path }) => [method, path]),
    BEGIN.map(({ method, path }) => [method, path]),
  );
  await using fake = await createFakeCore({ preboot: true });
  using lease = fake.core.leases.begin();
  await fake.core.content.ingestUnnamed(Readable.from([FILE_SYSTEM]), { lease, signal: new AbortController().signal });
  const app = createApp({ core: fake.core, requests, blobs: fake.core.content } as unknown as ApiParts);
  for (const wait of [true, false]) {
    for (const { method, url, body } of BEGIN) {
      const target = wait ? `${url}${url.includes("?") ? "&" : "?"}wait=true` : url;
      const answer = await app.request(target, { method: method.toUpperCase(), ...(body === undefined ? {} : { body }) });
      const operation = (await answer.json()) as OperationView;
      assert.deepEqual([answer.status, operation.state], wait ? [200, "succeeded"] : [202, "running"], `${method} ${target}`);
      await fake.ended(operation);
    }
  }
});

test("an operation that fails while its beginner waits is a problem with its own code, object and id", async () => {
  await using fake = await createFakeCore({ memoryBytes: 512 * 2 ** 20, faultOf: () => "refuse" });
  const app = createApp({ core: fake.core, requests } as unknown as ApiParts);
  const body = JSON.stringify({ image: "deb:fake", name: "web", command: ["true"], start: true });
  const answer = await app.request("/v1/vms?wait=true", { method: "POST", body });
  const problem = (await answer.json()) as Record<string, unknown>;
  assert.deepEqual([answer.status, problem["code"], problem["object"]], [500, "VMM_FAILED", "web"]);
  assert.match(String(problem["detail"]), /asked to fail/);
  assert.equal(fake.core.operations.get(String(problem["operation"])).state, "failed");
  const large = JSON.stringify({ image: "deb:fake", name: "big", command: ["true"], start: true, memoryBytes: 2 ** 30 });
  assert.equal((await app.request("/v1/vms?wait=true", { method: "POST", body: large })).status, 503);
  const count = fake.core.operations.list({ all: true }).length;
  assert.equal((await app.request("/v1/vms?wait=maybe", { method: "POST", body })).status, 400);
  assert.equal(fake.core.operations.list({ all: true }).length, count, "nothing was begun");
});

test("who waits for what is cancelled is told so, and who waits when the daemon ends is to ask the next one", async () => {
  const gate = Promise.withResolvers<void>();
  await using fake = await createFakeCore({ pull: () => gate.promise });
  const app = createApp({ core: fake.core, requests } as unknown as ApiParts);
  const wait = (name: string) =>
    app.request("/v1/vms?wait=true", { method: "POST", body: JSON.stringify({ image: "deb:fake", name, command: ["true"] }) });
  const [one, two] = [wait("one"), wait("two")];
  const { operations } = fake.core;
  const find = (name: string) => operations.list({ all: false }).find(({ subject }) => subject === name);
  while (find("one") === undefined || find("two") === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  operations.cancel(find("one")?.id ?? "");
  assert.equal((await one).status, 499);
  setTimeout(() => gate.resolve(), 5);
  await fake.handOver();
  const answer = await two;
  assert.deepEqual([answer.status, ((await answer.json()) as { code: string }).code], [503, "DAEMON_UNREACHABLE"]);
});
