import assert from "node:assert/strict";
import { test } from "node:test";
import type { KilnEvent } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { EventOptions } from "./event-stream.ts";
import { Kiln } from "./kiln.ts";
import { UnixTransport } from "./node/unix-transport.ts";
import { serverSentEvents } from "./server-sent-events.ts";
import { listOf, StubDaemon } from "./testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));

const event = (seq: number, type: KilnEvent["type"] = "vm.running"): KilnEvent => ({
  ...{ seq, time: "2026-11-21T10:00:00.000Z", type, subject: "web" },
  data: { id: "0123456789ab" },
});
const message = (one: KilnEvent): string => `id: ${one.seq}\ndata: ${JSON.stringify(one)}\n\n`;
const here = (cursor: number): string => `: here\nid: ${cursor}\n\n`;
const END = "event: end\ndata: {}\n\n";

/** A daemon that answers one connection after another. */
const answering = (stub: StubDaemon, answers: readonly ({ readonly text: string; readonly thenBreak?: boolean } | "break")[]): void => {
  let times = 0;
  stub.on("GET", "/v1/events", () => {
    const answer = answers[times++] ?? { text: END };
    return answer === "break" ? "break" : { bytes: Buffer.from(answer.text), thenBreak: answer.thenBreak ?? false };
  });
};

const collect = async (stub: StubDaemon, options: EventOptions = {}): Promise<number[]> => {
  using kiln = clientOf(stub);
  return (await listOf(kiln.events(options))).map(({ seq }) => seq);
};

const cursors = (stub: StubDaemon): (string | null)[] => stub.calls("GET", "/v1/events").map(({ query }) => query.get("since"));

test("a broken connection goes on behind the last event that arrived whole, and nothing comes twice", async () => {
  await using stub = await StubDaemon.listen();
  const cut = message(event(3)).slice(0, -5);
  answering(stub, [
    { text: `${here(0)}${message(event(1))}${message(event(2))}${cut}`, thenBreak: true },
    "break",
    { text: `${here(2)}${message(event(3))}${message(event(4))}${END}` },
  ]);
  assert.deepEqual(await collect(stub, { since: 0 }), [1, 2, 3, 4]);
  assert.equal(cursors(stub)[0], "0");
  assert.deepEqual(new Set(cursors(stub).slice(1)), new Set(["2"]));
});

test("from now on means from the first answer on: what happens while no daemon answers is not missed", async () => {
  await using stub = await StubDaemon.listen();
  answering(stub, [{ text: here(7), thenBreak: true }, { text: `${message(event(8))}${END}` }]);
  assert.deepEqual(await collect(stub), [8]);
  assert.deepEqual(cursors(stub), [null, "7"]);
});

test("a stream that ends without its last words is opened again, though its connection was closed in order", async () => {
  await using stub = await StubDaemon.listen();
  answering(stub, [{ text: message(event(1)) }, { text: `${message(event(2))}${END}` }]);
  assert.deepEqual(await collect(stub, { since: 0, until: "now" }), [1, 2]);
});

test("a filter that lets nothing through moves the cursor all the same", async () => {
  await using stub = await StubDaemon.listen();
  answering(stub, [{ text: `${here(0)}${here(900)}`, thenBreak: true }, { text: END }]);
  assert.deepEqual(await collect(stub, { since: 0, types: ["vm", "image.removed"], subjects: ["web"] }), []);
  assert.deepEqual(cursors(stub), ["0", "900"]);
  const { query } = stub.calls("GET", "/v1/events")[1] ?? assert.fail();
  assert.deepEqual([query.getAll("type"), query.getAll("subject")], [["vm", "image.removed"], ["web"]]);
});

test("forgotten events are an event, and times go over the wire as they are", async () => {
  await using stub = await StubDaemon.listen();
  const gap = event(99, "truncated");
  answering(stub, [{ text: `event: truncated\n${message(gap)}${END}` }]);
  using kiln = clientOf(stub);
  const since = new Date("2026-11-21T10:00:00Z");
  assert.deepEqual(await listOf(kiln.events({ since, until: since })), [gap]);
  const { query } = stub.calls("GET", "/v1/events")[0] ?? assert.fail();
  assert.deepEqual([query.get("since"), query.get("until")], ["2026-11-21T10:00:00.000Z", "2026-11-21T10:00:00.000Z"]);
});

test("what the daemon refuses is thrown, and an abort ends the iteration with its reason", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", "/v1/events", () => ({ problem: "REQUEST_INVALID", detail: "since: no" }));
  await assert.rejects(collect(stub), { code: "REQUEST_INVALID" });
  stub.on("GET", "/v1/events", () => "hang");
  const leave = new AbortController();
  const reason = new KilnError("CANCELLED", "enough");
  setTimeout(() => leave.abort(reason), 30);
  await assert.rejects(collect(stub, { signal: leave.signal }), (error) => error === reason);
});

test("messages are found however the bytes are cut", async () => {
  const text = `: hello\r\n\r\nid: 1\r\nevent: x\r\ndata: a\r\ndata: ü\r\n\r\nid\ndata\n\ndata:b\n\n`;
  const bytes = Buffer.from(text);
  for (let size = 1; size < bytes.length; size += 1) {
    async function* pieces() {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    const found = await listOf(serverSentEvents(pieces()));
    assert.deepEqual(
      found.map(({ name, id, data }) => [name, id, data]),
      [
        ["message", null, ""],
        ["x", "1", "a\nü"],
        ["message", "", ""],
        ["message", "", "b"],
      ],
      `in pieces of ${size}`,
    );
  }
});
