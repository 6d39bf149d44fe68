import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { KilnError } from "@kiln/protocol/errors";
import { anOperation } from "@kiln/sdk/testing";
import { renderError } from "./error.ts";
import { escapeControl } from "./escape.ts";
import { progressOf, renderProgress } from "./progress.ts";
import { renderTable } from "./table.ts";
import { formatAge, formatBytes, formatDuration } from "./units.ts";

describe("what a guest wrote cannot drive the terminal", () => {
  test("control characters become visible", () => {
    assert.equal(escapeControl("a\u001b[2Jb\n\r\t\u0007\u009b\u202e"), "a\\x1b[2Jb\\n\\r\\t\\x07\\x9b\\u202e");
    assert.equal(escapeControl("grün 日本 🙂"), "grün 日本 🙂");
  });
  test("no text keeps a control character", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => !/[\p{Cc}\u2028-\u202e\u2066-\u2069]/u.test(escapeControl(text))));
  });
  test("a table's rows stay rows", () => {
    assert.equal(renderTable(["A", "B"], [["x\ny", "\u001b]0;z"]]), "A      B\nx\\ny   \\x1b]0;z\n");
  });
  test("an error's message keeps its lines and nothing else", () => {
    const error = new KilnError("VM_BOOT_FAILED", "it said\n\u001b[31mno", {
      cause: new Error("deep\u0000", { cause: new Error("deeper") }),
      hint: "look\u0007",
    });
    assert.equal(
      renderError(error, { json: false, exitCode: 1 }),
      "kiln: it said\n  \\x1b[31mno\n  deep\\x00\n  deeper\n  hint: look\\x07\n",
    );
  });
});

test("with --json an error is one RFC 9457 line with the exit code that the process has", () => {
  const error = new KilnError("VM_NOT_FOUND", "there is no VM web\n", { object: "web", cause: new Error("why") });
  const line = renderError(error, { json: true, exitCode: 125 });
  assert.equal(line.indexOf("\n"), line.length - 1);
  const { type, code, detail, hint, object, operation, causes, exitCode } = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual(
    { type, code, detail, object, operation, causes, exitCode },
    {
      type: "urn:kiln:error:VM_NOT_FOUND",
      code: "VM_NOT_FOUND",
      detail: "there is no VM web\n",
      object: "web",
      operation: null,
      causes: ["why"],
      exitCode: 125,
    },
  );
  assert.equal(typeof hint, "string");
});

test("amounts and times read as people write them", () => {
  assert.deepEqual([0, 1, 1023, 1024, 1536, 2 ** 20 * 512, 2 ** 30 * 1.25].map(formatBytes), [
    "0 B",
    "1 B",
    "1023 B",
    "1 KiB",
    "1.5 KiB",
    "512 MiB",
    "1.3 GiB",
  ]);
  assert.deepEqual([0, 1000, 61_000, 7_200_000, 86_400_000 * 3].map(formatDuration), [
    "a moment",
    "1 second",
    "1 minute",
    "2 hours",
    "3 days",
  ]);
  assert.equal(formatAge(null, 0), "-");
  assert.equal(formatAge("1970-01-01T00:00:00Z", 60_000), "1 minute ago");
});

test("progress shows the phase, the queue's position, or a bar", () => {
  const running = anOperation({ state: "running", subject: "web", phase: "pull" });
  assert.equal(renderProgress(progressOf(running)), "web: pull …");
  assert.equal(
    renderProgress(progressOf({ ...running, progress: { done: 2 ** 20, total: 2 ** 21, unit: "bytes" } })),
    "web: pull  [############------------]  1 MiB / 2 MiB",
  );
  assert.equal(renderProgress(progressOf({ ...running, progress: { done: 3, total: null, unit: "layers" } })), "web: pull  3 layers");
  assert.equal(renderProgress(progressOf({ ...running, state: "queued", position: 4 })), "web: pull  waiting, 4 in front");
});
