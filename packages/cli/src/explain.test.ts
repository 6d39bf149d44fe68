import assert from "node:assert/strict";
import { test } from "node:test";
import type { Explanation } from "@kiln/protocol";
import { anOperation, StubDaemon } from "@kiln/sdk/testing";
import { renderExplanation } from "./render/explanation.ts";
import { kiln } from "./testing/kiln-process.ts";

const work = { id: "op_1", kind: "image.pull", subject: "alpine" };
const share = { total: 2 ** 30, reserved: 2 ** 29, wanted: 2 ** 28 };

const EXPLANATION: Explanation = {
  ...{ kind: "vm", id: "0123456789ab", name: "web", state: "failed" },
  summary: ["web failed: it died.\u001b[2J"],
  error: { code: "VM_DIED", detail: "it died", hint: "look at it", causes: ["SIGKILL"] },
  waits: [{ for: "capacity", position: 4, ms: 1_234, operation: work, state: "over" }],
  joined: [{ work, by: { id: "op_2", kind: "vm.create", subject: "db" }, state: "waiting", ms: 20 }],
  capacity: { memoryBytes: share, cpus: { total: 2, reserved: 1, wanted: null }, diskBytes: share, waiting: 3 },
  heldBy: [{ kind: "vm", id: "ba9876543210", name: "db", what: "rootfs" }],
  operations: [anOperation({ phases: [{ name: "boot", ms: 61 }], state: "running", phase: "setup" })],
  events: [{ seq: 1, time: "2026-11-21T10:00:00.000Z", type: "vm.failed", subject: "web", data: { id: "0123456789ab" } }],
};

test("an explanation for people says what is so and then why, and nothing in it drives the terminal", () => {
  assert.equal(
    renderExplanation(EXPLANATION),
    `web (0123456789ab) failed
web failed: it died.\\x1b[2J
  because: SIGKILL
hint: look at it

Stood in line:
  for memory and CPUs, with 3 in front, 1.2 s: image.pull (op_1)

Joined the work of others:
  image.pull of alpine (op_1), begun for vm.create of db: so far 20 ms

Held by:
  vm db (ba9876543210): rootfs

Room:
  memory: wants 256 MiB, 512 MiB reserved of 1 GiB
  disk: wants 256 MiB, 512 MiB reserved of 1 GiB
  CPUs: 1 reserved of 2
  3 wait for memory or CPUs

Operations:
ID                    KIND        SUBJECT   STATE     PHASES
op_0123456789abcdef   vm.create   web       running   boot 61 ms, setup …

Events:
  2026-11-21T10:00:00.000Z vm.failed web (id=0123456789ab)
`,
  );
});

test("what there is nothing to say about is left out", () => {
  const bare = { ...EXPLANATION, error: null, waits: [], joined: [], capacity: null, heldBy: [], operations: [], events: [] };
  assert.equal(renderExplanation({ ...bare, id: null, state: null, summary: ["It is gone."] }), "web\nIt is gone.\n");
});

test("explain --json is the daemon's answer, and a name with slashes is one name", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", /^\/v1\/explain\/(.+)$/, ({ groups: [subject] }) =>
    subject === "h:5000/a/b:1" ? { json: EXPLANATION } : { problem: "NOT_FOUND", detail: `there is no ${subject}` },
  );
  const found = await kiln(["explain", "--json", "h:5000/a/b:1"], { home: stub.home });
  assert.deepEqual([found.exitCode, JSON.parse(found.stdout)], [0, EXPLANATION]);
  const missing = await kiln(["explain", "nobody"], { home: stub.home });
  assert.equal(missing.exitCode, 1);
  assert.match(missing.stderr, /there is no nobody/);
});
