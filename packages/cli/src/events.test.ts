import assert from "node:assert/strict";
import { test } from "node:test";
import type { KilnEvent } from "@kiln/protocol";
import { StubDaemon } from "@kiln/sdk/testing";
import { renderEvent } from "./render/event.ts";
import { kiln } from "./testing/kiln-process.ts";

const event = (fields: Partial<KilnEvent>): KilnEvent => ({
  ...{ seq: 7, time: "2026-11-21T10:00:00.000Z", type: "vm.failed", subject: "web", data: { id: "0123456789ab" } },
  ...fields,
});

const body = (...events: readonly KilnEvent[]): Buffer =>
  Buffer.from(`${events.map((one) => `id: ${one.seq}\ndata: ${JSON.stringify(one)}\n\n`).join("")}event: end\ndata: {}\n\n`);

test("an event is a line: time, what, to what, and the details; what a guest made up cannot pose as another line", () => {
  const data = { id: "0123456789ab", from: "running", exitCode: null, error: { code: "VM_DIED", detail: "it died" }, phases: [] };
  assert.equal(renderEvent(event({ data })), '2026-11-21T10:00:00.000Z vm.failed web (id=0123456789ab, from=running, error="it died")');
  assert.equal(
    renderEvent(event({ data: { id: `sha256:${"a".repeat(64)}` } })),
    `2026-11-21T10:00:00.000Z vm.failed web (id=${"a".repeat(12)})`,
  );
  assert.equal(renderEvent(event({ subject: "a\nb", data: {} })), "2026-11-21T10:00:00.000Z vm.failed a\\nb");
  assert.equal(
    renderEvent(event({ type: "truncated", data: { missing: 3 } })),
    "2026-11-21T10:00:00.000Z truncated: events before number 8 are forgotten",
  );
  assert.equal(
    renderEvent(event({ type: "truncated", data: { since: 99, missing: 0 } })),
    "2026-11-21T10:00:00.000Z truncated: there is no event number 99 here; what follows is behind number 7",
  );
});

test("events --json prints one object a line, and the flags reach the daemon as they are meant", async () => {
  await using stub = await StubDaemon.listen();
  const events = [event({}), event({ seq: 8, type: "vm.removed" })];
  stub.on("GET", "/v1/events", () => ({ bytes: body(...events) }));
  const argv = ["events", "--json", "--since", "6", "--until", "now", "-f", "type=vm", "-f", "subject=a=b", "--filter", "type=image"];
  const run = await kiln(argv, { home: stub.home });
  assert.deepEqual([run.exitCode, run.stderr], [0, ""]);
  assert.deepEqual(
    run.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as KilnEvent),
    events,
  );
  const { query } = stub.calls("GET", "/v1/events")[0] ?? assert.fail();
  assert.deepEqual([query.get("since"), query.get("until")], ["6", "now"]);
  assert.deepEqual([query.getAll("type"), query.getAll("subject")], [["vm", "image"], ["a=b"]]);
});

test("how long ago something was is counted from now", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", "/v1/events", () => ({ bytes: body() }));
  const before = Date.now();
  await kiln(["events", "--since", "10m"], { home: stub.home });
  const since = Date.parse(stub.calls("GET", "/v1/events")[0]?.query.get("since") ?? "");
  assert.ok(since >= before - 600_000 && since <= Date.now() - 600_000, String(since));
});

test("wrong flags are usage errors, and an interrupt ends it", async () => {
  await using stub = await StubDaemon.listen();
  for (const argv of [
    ["--since", "x"],
    ["--until", "5"],
    ["-f", "vm"],
    ["-f", "name=web"],
  ]) {
    assert.equal((await kiln(["events", ...argv], { home: stub.home })).exitCode, 2, argv.join(" "));
  }
  stub.on("GET", "/v1/events", () => "hang");
  const run = await kiln(["events"], { home: stub.home, during: (child) => void setTimeout(() => child.kill("SIGINT"), 700) });
  assert.equal(run.exitCode, 130);
});
