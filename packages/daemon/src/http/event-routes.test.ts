import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "@kiln/std";
import type { EventLog } from "../operations/events.port.ts";
import { OPERATION_LIMITS } from "../operations/limits.ts";
import { Database } from "../store/database.ts";
import { SqliteEventLog } from "../store/event-log.ts";
import { createApp } from "./app.ts";
import type { ApiParts } from "./parts.ts";

const setUp = () => {
  const log = new SqliteEventLog(new Database(":memory:"));
  const counts = { read: 0, listeners: 0 };
  const events: EventLog = {
    append: (draft) => log.append(draft),
    bounds: () => log.bounds(),
    cursorBefore: (time) => log.cursorBefore(time),
    about: (names, options) => log.about(names, options),
    read: (options) => {
      const batch = log.read(options);
      counts.read += batch.length;
      return batch;
    },
    listen: (listener) => {
      const listening = log.listen(listener);
      counts.listeners += 1;
      return {
        [Symbol.dispose]: () => {
          counts.listeners -= 1;
          listening[Symbol.dispose]();
        },
      };
    },
  };
  const journal = { info: () => undefined, warn: () => undefined, error: () => assert.fail("an error was logged") };
  const app = createApp({ core: { events, clock: systemClock, journal } } as unknown as ApiParts);
  return { app, counts, append: (subject: string) => events.append({ type: "vm.running", subject, data: { id: "a" } }) };
};

const textOf = async (answer: Response | Promise<Response>): Promise<string> => (await answer).text();

test("events are server-sent events whose ids are cursors, and the last words say that it was all", async () => {
  const { app, append } = setUp();
  append("web\nid: 999");
  const answer = await app.request("/v1/events?since=0&until=now");
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  const messages = (await answer.text()).split("\n\n");
  assert.equal(messages[0], ": here\nid: 0");
  assert.match(messages[1] ?? "", /^id: 1\ndata: \{"seq":1,.*"subject":"web\\nid: 999"/);
  assert.deepEqual(messages.slice(2), ["event: end\ndata: {}", ""]);
});

test("a browser comes back with Last-Event-ID", async () => {
  const { app, append } = setUp();
  for (const name of ["a", "b", "c"]) append(name);
  const text = await textOf(app.request("/v1/events?until=now", { headers: { "last-event-id": "2" } }));
  assert.deepEqual(
    [...text.matchAll(/"subject":"(\w)"/g)].map(([, name]) => name),
    ["c"],
  );
  assert.match(await textOf(app.request("/v1/events?until=now&since=0&subject=b&subject=c&type=vm")), /"b"[^]*"c"/);
});

test("a cursor from before the journal's beginning is told first, by an event of its own name", async () => {
  const { app } = setUp();
  assert.match(await textOf(app.request("/v1/events?until=now&since=5")), /^event: truncated\nid: 0\ndata: .*"type":"truncated"/);
});

test("a client that takes nothing costs a batch and no more, and one that leaves costs nothing", async () => {
  const { app, append, counts } = setUp();
  const pause = () => systemClock.sleep(30, { signal: new AbortController().signal });
  const answer = await app.request("/v1/events?since=0");
  for (let count = 0; count < 3_000; count += 1) append("x".repeat(1_000));
  await pause();
  assert.ok(counts.read <= OPERATION_LIMITS.eventBatch, `${counts.read} were read for nobody`);
  assert.equal(counts.listeners, 1);
  const reader = (answer.body ?? assert.fail()).getReader();
  await reader.read();
  await reader.cancel();
  await pause();
  assert.equal(counts.listeners, 0);
});

test("what is no cursor and no time is refused", async () => {
  const { app } = setUp();
  for (const query of ["since=-1", "since=soon", "until=later", "since=1.5", "until=5"]) {
    assert.equal((await app.request(`/v1/events?${query}`)).status, 400, query);
  }
});
