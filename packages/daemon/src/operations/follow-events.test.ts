import assert from "node:assert/strict";
import { test } from "node:test";
import type { EventDraft, KilnEvent } from "@kiln/protocol";
import { FakeClock } from "@kiln/std";
import fc from "fast-check";
import { Database } from "../store/database.ts";
import { SqliteEventLog } from "../store/event-log.ts";
import { STORE_LIMITS } from "../store/limits.ts";
import { type EventMessage, type EventQuery, followEvents } from "./follow-events.ts";

const never = new AbortController().signal;
const ALL: EventQuery = { since: 0, until: "now", types: [], subjects: [] };

const setUp = () => {
  const clock = new FakeClock();
  const events = new SqliteEventLog(new Database(":memory:", { clock }));
  const append = (fields: Partial<EventDraft> = {}): void =>
    events.append({ type: "vm.running", subject: "web", data: { id: "a" }, ...fields });
  return { clock, events, append, core: { clock, events } };
};

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

const eventsOf = (messages: readonly EventMessage[]): KilnEvent[] => messages.flatMap((one) => ("event" in one ? [one.event] : []));

const replay = async (core: Parameters<typeof followEvents>[0], query: Partial<EventQuery>): Promise<KilnEvent[]> =>
  eventsOf(await Array.fromAsync(followEvents(core, { ...ALL, ...query }, { signal: never })));

const seqs = (events: readonly KilnEvent[]): number[] => events.map(({ seq }) => seq);

test("a replay is what the journal has behind the cursor", async () => {
  const { core, append } = setUp();
  assert.deepEqual(await replay(core, {}), [], "an empty journal");
  for (let count = 0; count < 5; count += 1) append();
  assert.deepEqual(seqs(await replay(core, {})), [1, 2, 3, 4, 5]);
  assert.deepEqual(seqs(await replay(core, { since: 3 })), [4, 5]);
  assert.deepEqual(seqs(await replay(core, { since: null })), [], "without a cursor: from now on");
});

test("times are as good as cursors", async () => {
  const { core, append, clock } = setUp();
  const times: number[] = [];
  for (let count = 0; count < 4; count += 1) {
    times.push(clock.now());
    append();
    clock.advance(1_000);
  }
  const [, second = 0, third = 0] = times;
  assert.deepEqual(seqs(await replay(core, { since: new Date(second).toISOString() })), [2, 3, 4]);
  assert.deepEqual(seqs(await replay(core, { since: new Date(second - 1).toISOString(), until: third })), [2, 3]);
});

test("an end that lies ahead is waited for", async () => {
  const { core, append, clock } = setUp();
  const reading = replay(core, { until: clock.now() + 500 });
  await clock.untilSleeping(1);
  append();
  await settle();
  clock.advance(501);
  await settle();
  append();
  assert.deepEqual(seqs(await reading), [1]);
});

test("filters: values of one key are alternatives, keys narrow each other, and a word stands for all of its kind", async () => {
  const { core, append } = setUp();
  append({ type: "vm.running", subject: "web", data: { id: "aa" } });
  append({ type: "vm.failed", subject: "web", data: { id: "aa" } });
  append({ type: "operation.failed", subject: "db", data: { id: "bb" } });
  const filtered = async (types: string[], subjects: string[]) => seqs(await replay(core, { types, subjects }));
  assert.deepEqual(await filtered(["vm"], []), [1, 2]);
  assert.deepEqual(await filtered(["vm.failed", "operation"], []), [2, 3]);
  assert.deepEqual(await filtered(["vm"], ["db"]), []);
  assert.deepEqual(await filtered([], ["aa"]), [1, 2], "an id is a subject's other name");
  assert.deepEqual(await filtered(["v"], []), []);
});

test("a cursor whose events are forgotten gets a first event that says so, and how many it missed", async () => {
  const { core, append, events } = setUp();
  for (let count = 0; count < STORE_LIMITS.events + 2 * STORE_LIMITS.trimEvery; count += 1) append();
  const { oldest, newest } = events.bounds();
  assert.ok(newest - oldest + 1 >= STORE_LIMITS.events && newest - oldest + 1 <= STORE_LIMITS.events + STORE_LIMITS.trimEvery);
  const [first, second] = await replay(core, { since: 10 });
  assert.deepEqual([first?.type, first?.seq, first?.data["missing"]], ["truncated", oldest - 1, oldest - 11]);
  assert.equal(second?.seq, oldest);
  assert.equal((await replay(core, { since: oldest - 1 }))[0]?.type, "vm.running", "nothing is missing");
  const [ahead, none] = await replay(core, { since: newest + 5 });
  assert.deepEqual([ahead?.type, ahead?.seq, none], ["truncated", newest, undefined], "a cursor of another life of the home");
});

test("a quiet stream gives a sign of life with the cursor, also of what the filter holds back", async () => {
  const { core, append, clock } = setUp();
  append();
  const messages = followEvents(core, { ...ALL, until: null, types: ["image"] }, { signal: never });
  assert.deepEqual((await messages.next()).value, { cursor: 0 });
  const next = messages.next();
  await clock.untilSleeping(1);
  clock.advance(15_000);
  assert.deepEqual((await next).value, { cursor: 1 });
  await messages.return(undefined);
});

test("a reader that is slower than the journal forgets is told of the gap, and the writers never wait for it", async () => {
  const { core, append } = setUp();
  append();
  const messages = followEvents(core, { ...ALL, until: null }, { signal: never });
  await messages.next();
  assert.equal(eventsOf([(await messages.next()).value as EventMessage])[0]?.seq, 1);
  for (let count = 0; count < 2 * STORE_LIMITS.events; count += 1) append();
  const seen: KilnEvent[] = [];
  while (seen.at(-1)?.seq !== core.events.bounds().newest) seen.push(...eventsOf([(await messages.next()).value as EventMessage]));
  const gaps = seen.filter((event) => event.type === "truncated");
  assert.equal(gaps.length, 1);
  assert.equal(seen.length - 1 + Number(gaps[0]?.data["missing"]), 2 * STORE_LIMITS.events);
  await messages.return(undefined);
});

test("however writers and readers interleave, and however often a reader comes back with its cursor, it sees each event once", async () => {
  const step = fc.oneof(
    fc.record({ append: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ turns: fc.integer({ min: 1, max: 3 }) }),
    fc.constant({ leave: true }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const { core, append } = setUp();
      const seen: number[] = [];
      let cursor = 0;
      const listen = (): (() => Promise<void>) => {
        const leave = new AbortController();
        const reading = (async () => {
          for await (const message of followEvents(core, { ...ALL, since: cursor, until: null }, { signal: leave.signal })) {
            cursor = "event" in message ? message.event.seq : message.cursor;
            if ("event" in message) seen.push(cursor);
            await settle();
          }
        })().catch((error: unknown) => assert.ok(leave.signal.aborted, String(error)));
        return () => {
          leave.abort();
          return reading;
        };
      };
      let leave = listen();
      for (const one of steps) {
        if ("leave" in one) {
          await leave();
          leave = listen();
        } else if ("append" in one) {
          for (let count = 0; count < one.append; count += 1) append();
        } else {
          for (let turn = 0; turn < one.turns; turn += 1) await settle();
        }
      }
      const { newest } = core.events.bounds();
      for (let turns = 0; seen.length < newest && turns < 5_000; turns += 1) await settle();
      await leave();
      assert.deepEqual(
        seen,
        Array.from({ length: newest }, (_, index) => index + 1),
      );
    }),
    { numRuns: 50 },
  );
});
