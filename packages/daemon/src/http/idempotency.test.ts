import assert from "node:assert/strict";
import { test } from "node:test";
import { KilnError } from "@kiln/protocol";
import { ROUTES } from "@kiln/protocol/routes";
import { FakeClock } from "@kiln/std";
import { Hono } from "hono";
import { Database } from "../store/database.ts";
import { STORE_LIMITS } from "../store/limits.ts";
import { SqliteRequestStore } from "../store/request-store.ts";
import type { Core } from "../operations/core.ts";
import { problemResponse } from "./app.ts";
import { idempotency, KEPT_ROUTES } from "./idempotency.ts";

const TAG = "/v1/images/tag";

/** One route behind the middleware, and the daemons that serve it one after another on the same records. */
const setUp = (method: "post" | "delete", path: string, effect: (count: number) => Promise<Response>) => {
  const clock = new FakeClock();
  const requests = new SqliteRequestStore(new Database(":memory:", { clock }));
  const used = new Set<string>();
  const core = { clock, operations: { hasKey: (key: string) => used.has(key) }, journal: { warn: () => undefined } };
  let effects = 0;
  const daemon = () =>
    new Hono()
      .use(idempotency({ core: core as unknown as Core, requests }))
      .on(method, path, async () => {
        effects += 1;
        return effect(effects);
      })
      .onError((error) => problemResponse(error as KilnError));
  return { clock, requests, daemon, used, count: () => effects };
};

const ask = async (app: Hono, path: string, options: { key?: string; body?: string; method?: string } = {}): Promise<Response> => {
  const { key = "key-1", body = '{"source":"a"}', method = "POST" } = options;
  const headers: Record<string, string> = key === "" ? {} : { "idempotency-key": key };
  return app.request(path, { method, headers, ...(method === "POST" ? { body } : {}) });
};

const seen = async (answer: Response): Promise<unknown[]> => [
  answer.status,
  await answer.text(),
  answer.headers.get("idempotency-replayed"),
];

const codeOf = async (answer: Response): Promise<unknown> => ((await answer.json()) as { code: string }).code;

test("the same request with the same key happens once, and its answer is given again, also by the next daemon", async () => {
  const { daemon, count } = setUp("post", TAG, async (times) => Response.json({ times }));
  const app = daemon();
  assert.deepEqual(await seen(await ask(app, TAG)), [200, '{"times":1}', null]);
  assert.deepEqual(await seen(await ask(app, TAG)), [200, '{"times":1}', "true"]);
  assert.deepEqual(await seen(await ask(daemon(), TAG)), [200, '{"times":1}', "true"]);
  assert.equal(count(), 1);
  assert.deepEqual(await seen(await ask(app, TAG, { key: "key-2" })), [200, '{"times":2}', null]);
  assert.deepEqual(await seen(await ask(app, TAG, { key: "" })), [200, '{"times":3}', null]);
});

test("the same key for another body, path or operation is a conflict", async () => {
  const { daemon, used } = setUp("post", "/v1/vms/:vm/kill", async () => new Response(null, { status: 204 }));
  const app = daemon();
  assert.equal((await ask(app, "/v1/vms/web/kill", { body: "{}" })).status, 204);
  for (const [path, body] of [
    ["/v1/vms/web/kill", '{"signal":"SIGHUP"}'],
    ["/v1/vms/db/kill", "{}"],
    ["/v1/vms/web/kill?x=1", "{}"],
  ] as const)
    assert.equal(await codeOf(await ask(app, path, { body })), "IDEMPOTENCY_CONFLICT", `${path} ${body}`);
  used.add("of-an-operation");
  assert.equal(await codeOf(await ask(app, "/v1/vms/web/kill", { key: "of-an-operation" })), "IDEMPOTENCY_CONFLICT");
  const begins = setUp("post", "/v1/vms", async () => Response.json({}, { status: 202 }));
  begins.requests.begin("of-a-tag", { fingerprint: "x", nowMs: begins.clock.now() });
  assert.equal(await codeOf(await ask(begins.daemon(), "/v1/vms", { key: "of-a-tag" })), "IDEMPOTENCY_CONFLICT");
  assert.equal((await ask(begins.daemon(), "/v1/vms", { key: "fresh" })).status, 202);
});

test("who asks while the first still runs waits for its answer; a failure is not inherited, and leaves the key free", async () => {
  const gate = Promise.withResolvers<void>();
  const { daemon, count } = setUp("post", TAG, async (times) => {
    await gate.promise;
    if (times === 1) throw new KilnError("IMAGE_NOT_FOUND", "there is no image a");
    return Response.json({ times });
  });
  const app = daemon();
  const three = [ask(app, TAG), ask(app, TAG), ask(app, TAG)];
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(count(), 1);
  assert.equal(await codeOf(await ask(app, TAG, { body: "{}" })), "IDEMPOTENCY_CONFLICT", "another request need not wait for its refusal");
  gate.resolve();
  const statuses = (await Promise.all(three)).map(({ status }) => status);
  assert.deepEqual([statuses, count()], [[404, 200, 200], 2]);
  assert.equal((await ask(app, TAG)).headers.get("idempotency-replayed"), "true");
});

test("a key is forgotten after its window", async () => {
  const { daemon, clock, count } = setUp("post", TAG, async (times) => Response.json({ times }));
  const app = daemon();
  await ask(app, TAG);
  clock.advance(STORE_LIMITS.keyWindowMs);
  assert.equal((await ask(app, TAG)).headers.get("idempotency-replayed"), "true");
  clock.advance(1);
  assert.deepEqual(await seen(await ask(app, TAG, { body: "{}" })), [200, '{"times":2}', null]);
  assert.equal(count(), 2);
});

test("no more than so many keys are kept, the newest ones", () => {
  const { requests, clock } = setUp("post", TAG, async () => new Response());
  const total = STORE_LIMITS.keptRequests + 2 * STORE_LIMITS.trimEvery;
  for (let index = 0; index < total; index += 1) requests.begin(`k${index}`, { fingerprint: "f", nowMs: clock.now() });
  const find = (index: number) => requests.find(`k${index}`, { nowMs: clock.now() });
  assert.deepEqual([find(0), find(STORE_LIMITS.trimEvery - 2)], [null, null]);
  assert.notEqual(find(total - STORE_LIMITS.keptRequests), null);
});

test("every mutation says how it is repeated, and those whose answer is kept say what a crash means for them", () => {
  const mutations = ROUTES.filter(({ method }) => method !== "get");
  assert.deepEqual(
    mutations.filter(({ repeat }) => repeat === null).map(({ path }) => path),
    [],
  );
  assert.deepEqual(
    mutations.flatMap(({ repeat, method, path }) => (repeat === "answer" ? [`${method} ${path}`] : [])).sort(),
    KEPT_ROUTES.toSorted(),
  );
});

/** What an earlier daemon began, and died before it could write the answer down. */
const AFTER_CRASH: readonly {
  readonly what: string;
  readonly route: string;
  readonly path: string;
  readonly body?: string;
  readonly effect: () => Promise<Response>;
  readonly expected: { readonly status: number; readonly effects: number };
}[] = [
  {
    what: "a tag is set again",
    ...{ route: TAG, path: TAG, effect: async () => Response.json({}) },
    expected: { status: 200, effects: 1 },
  },
  {
    what: "an image that is gone was removed by the first try",
    ...{ route: "/v1/images/:reference{.+}", path: "/v1/images/a" },
    effect: async () => {
      throw new KilnError("IMAGE_NOT_FOUND", "there is no image a");
    },
    expected: { status: 204, effects: 1 },
  },
  {
    what: "an image that is in use is still refused",
    ...{ route: "/v1/images/:reference{.+}", path: "/v1/images/a" },
    effect: async () => {
      throw new KilnError("IMAGE_IN_USE", "a is used");
    },
    expected: { status: 409, effects: 1 },
  },
  {
    what: "the power of a VM that has ended was cut by the first try",
    ...{ route: "/v1/vms/:vm/kill", path: "/v1/vms/a/kill", body: "{}" },
    effect: async () => {
      throw new KilnError("VM_NOT_RUNNING", "a is exited");
    },
    expected: { status: 204, effects: 1 },
  },
  {
    what: "a signal is not sent a second time",
    ...{ route: "/v1/vms/:vm/kill", path: "/v1/vms/a/kill", body: '{"signal":"SIGHUP"}' },
    effect: async () => assert.fail("it was sent"),
    expected: { status: 500, effects: 0 },
  },
  {
    what: "a stop that ended one daemon does not end the next",
    ...{ route: "/v1/daemon/stop", path: "/v1/daemon/stop", body: "{}" },
    effect: async () => assert.fail("it was stopped"),
    expected: { status: 202, effects: 0 },
  },
];

for (const { what, route, path, body, effect, expected } of AFTER_CRASH) {
  test(`after a crash between effect and answer: ${what}`, async () => {
    const method = path === "/v1/images/a" ? "delete" : "post";
    let isCrashed = false;
    const { daemon, count, requests } = setUp(method, route, () => (isCrashed ? effect() : Promise.resolve(Response.json({}))));
    const dying = daemon();
    requests.answer = () => {
      throw new KilnError("DISK_FULL", "as if it had died here"); // the row stays as a crash would leave it
    };
    const options = { method: method.toUpperCase(), ...(body === undefined ? {} : { body }) };
    await ask(dying, path, options);
    assert.equal(count(), 1);
    Reflect.deleteProperty(requests, "answer");
    isCrashed = true;
    const answer = await ask(daemon(), path, options);
    assert.deepEqual([answer.status, count() - 1], [expected.status, expected.effects]);
    if (expected.status === 500) assert.equal(await codeOf(answer), "INTERRUPTED");
  });
}
