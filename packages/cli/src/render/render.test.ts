import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { KilnError } from "@kiln/protocol/errors";
import { anOperation } from "@kiln/sdk/testing";
import { renderError } from "./error.ts";
import { escapeControl } from "./escape.ts";
import { progressOf, renderBlock, renderProgress } from "./progress.ts";
import { renderTable } from "./table.ts";
import { formatAge, formatBytes, formatDuration, shortDigest } from "./units.ts";

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

test("a cause that the message has said is not said again", () => {
  const error = new KilnError("IMAGE_INVALID", "cannot be used: no tag", {
    cause: new Error("no tag", { cause: new Error("why") }),
    hint: "look",
  });
  assert.equal(renderError(error, { json: false, exitCode: 1 }), "kiln: cannot be used: no tag\n  why\n  hint: look\n");
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
  assert.equal(renderProgress(progressOf({ ...running, state: "queued", position: 4 })), "web: pull  waiting, 3 in front");
});

describe("a block of progress", () => {
  const digest = (index: number): string => `sha256:${String(index).padStart(64, "0")}`;
  const state = (states: readonly ("waiting" | "active" | "done" | "present")[]) => ({
    ...progressOf(anOperation({ state: "running", subject: "x", phase: "fetch" })),
    parts: states.map((one, index) => ({ name: digest(index), state: one, done: 1024, total: index === 1 ? null : 4096 })),
  });
  const size = (rows: number) => ({ rows, columns: 80 });

  test("has a line for each layer while there is room", () => {
    assert.deepEqual(renderBlock([state(["present", "active", "active", "waiting", "done"])], size(6)), [
      "x: fetch …",
      "  000000000000  there already",
      "  000000000000  1 KiB",
      "  000000000000  [######------------------]  1 KiB / 4 KiB",
      "  000000000000  waiting",
      "  000000000000  done",
    ]);
  });
  test("counts them where there is not, and shows those that move", () => {
    const many = state(["done", "active", "active", "waiting", "waiting", "present"]);
    assert.deepEqual(renderBlock([many], size(4)), [
      "x: fetch …",
      "  000000000000  1 KiB",
      "  000000000000  [######------------------]  1 KiB / 4 KiB",
      "  2 of 6 layers are there",
    ]);
    assert.deepEqual(renderBlock([many], size(2)), ["x: fetch …", "  2 of 6 layers are there"]);
    assert.deepEqual(renderBlock([many], size(1)), ["x: fetch …"]);
    assert.deepEqual(renderBlock([many, many, many], size(2)), ["x: fetch …", "… and 2 more"]);
  });
  test("never has more lines than there are rows, nor longer ones than columns, whatever a daemon says", () => {
    const part = fc.record({
      name: fc.string({ unit: "binary" }),
      state: fc.constantFrom("waiting" as const, "active" as const, "done" as const, "present" as const),
      done: fc.nat(),
      total: fc.option(fc.nat()),
    });
    const states = fc.array(
      fc.record({
        ...{ phase: fc.string({ unit: "binary" }), position: fc.option(fc.nat()), done: fc.option(fc.nat()), total: fc.option(fc.nat()) },
        ...{ unit: fc.constantFrom("bytes", "layers"), parts: fc.array(part, { maxLength: 30 }) },
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(states, fc.integer({ min: 1, max: 30 }), fc.integer({ min: 10, max: 100 }), (all, rows, columns) => {
        const lines = renderBlock(all, { rows, columns });
        assert(lines.length <= rows);
        for (const line of lines) assert(line.length <= columns && !/\p{Cc}/u.test(line));
      }),
    );
  });
  test("a digest is shown by twelve digits, anything else as it is", () => {
    assert.deepEqual([shortDigest(digest(7)), shortDigest("sha256:xyz")], ["000000000000", "sha256:xyz"]);
  });
});
