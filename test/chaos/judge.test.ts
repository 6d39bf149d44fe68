import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { KilnEvent } from "@kiln/protocol";
import {
  exitOfExec,
  exitOfOthers,
  judgeAnswers,
  judgeFailures,
  judgeJournal,
  judgeKept,
  judgeNonces,
  judgeTold,
  type NonceRun,
} from "./judge.ts";

const runOf = (about: Partial<NonceRun>): NonceRun => ({
  ...{ nonce: "n", what: "an exec", acknowledged: true, most: () => 1, said: "n\n" },
  ...about,
});
const ran = (times: number | null) => () => times;

describe("the oracle of nonces", () => {
  test("an acknowledged command has run once; one that is not has run once or never", () => {
    assert.deepEqual(judgeNonces([runOf({})], ran(1)), []);
    assert.deepEqual(judgeNonces([runOf({ acknowledged: false, said: null })], ran(0)), []);
    assert.deepEqual(judgeNonces([runOf({ acknowledged: false, said: null })], ran(1)), []);
  });
  test("a nonce that is there twice is a complaint, acknowledged or not", () => {
    for (const acknowledged of [true, false])
      assert.deepEqual(judgeNonces([runOf({ acknowledged })], ran(2)), ["an exec: it ran 2 times instead of 1"]);
  });
  test("an acknowledged command that has not run is a complaint; one whose disk is gone is none", () => {
    assert.deepEqual(judgeNonces([runOf({})], ran(0)), ["an exec: it was acknowledged and has not run"]);
    assert.deepEqual(judgeNonces([runOf({})], ran(null)), []);
  });
  test("a VM's own command may run once for each of its starts, and no more", () => {
    assert.deepEqual(judgeNonces([runOf({ most: () => 3 })], ran(3)), []);
    assert.equal(judgeNonces([runOf({ most: () => 3 })], ran(4)).length, 1);
  });
  test("output that is doubled or cut off is a complaint", () => {
    for (const said of ["n\nn\n", "n", ""]) assert.equal(judgeNonces([runOf({ said })], ran(1)).length, 1);
  });
});

describe("the oracle of failures", () => {
  const failure = { what: "a create", message: "words", exit: null };

  test("one that the commands cause each other is none", () => {
    assert.deepEqual(judgeFailures([{ ...failure, code: "VM_NAME_TAKEN" }], []), []);
  });
  test("an untyped one, an unknown code and INTERNAL are complaints under any fault", () => {
    const faults = ["kill-daemon", "fill-disk", "registry"] as const;
    for (const code of [null, "EPIPE", "INTERNAL", "REQUEST_INVALID"])
      assert.equal(judgeFailures([{ ...failure, code }], faults).length, 1, String(code));
  });
  test("one that only a fault explains is a complaint without it", () => {
    assert.deepEqual(judgeFailures([{ ...failure, code: "DISK_FULL" }], ["fill-disk"]), []);
    assert.equal(judgeFailures([{ ...failure, code: "DISK_FULL" }], ["kill-daemon"]).length, 1);
    assert.equal(judgeFailures([{ ...failure, code: "DAEMON_UNREACHABLE" }], ["registry"]).length, 1);
  });
  test("a process that ends with another exit code than its error's is a complaint", () => {
    const ending = (code: number, wanted = exitOfOthers) =>
      judgeFailures([{ ...failure, code: "VM_NOT_FOUND", exit: { code, wanted } }], []);
    assert.deepEqual([ending(1), ending(125, exitOfExec)], [[], []]);
    assert.deepEqual([ending(125).length, ending(1, exitOfExec).length], [1, 1]);
  });
});

describe("the oracle of the journal", () => {
  const event = (seq: number, type: KilnEvent["type"], id = "op"): KilnEvent => ({
    ...{ seq, time: "2026-01-01T00:00:00.000Z", type, subject: "s", data: { id, kind: "vm.create" } },
  });

  test("what begins ends once, over daemons too", () => {
    const events = [event(1, "operation.begun"), event(2, "operation.resumed"), event(3, "operation.succeeded")];
    assert.deepEqual(judgeJournal(events), []);
  });
  test("an operation that does not end, ends twice, or was never begun is a complaint", () => {
    const begun = event(1, "operation.begun");
    assert.match(judgeJournal([begun])[0] ?? "", /has begun and not ended/);
    assert.match(judgeJournal([begun, event(2, "operation.failed"), event(3, "operation.succeeded")])[0] ?? "", /has ended twice/);
    assert.match(judgeJournal([event(2, "operation.cancelled")])[0] ?? "", /never begun/);
  });
  test("a cursor that does not count up, and a removed VM to which something happens, are complaints", () => {
    assert.equal(judgeJournal([event(2, "vm.created", "a"), event(2, "vm.created", "b")]).length, 1);
    assert.equal(judgeJournal([event(1, "vm.removed", "a"), event(2, "vm.failed", "a")]).length, 1);
  });
  test("an end that a client was told and the journal does not know, or knows otherwise, is a complaint", () => {
    const told = [{ id: "op", what: "a create", state: "succeeded" as const }];
    const begun = event(1, "operation.begun");
    assert.deepEqual(judgeTold(told, [begun, event(2, "operation.succeeded")]), []);
    assert.equal(judgeTold(told, [begun, event(2, "operation.failed")]).length, 1);
    assert.equal(judgeTold(told, [begun]).length, 1);
  });
});

test("a VM that was created and that nobody removed is there, or it is a complaint", () => {
  const created = new Map([["1", "vm-1"]]);
  const none = new Set<string>();
  assert.deepEqual(judgeKept(created, { present: new Set(["1"]), removed: none }), []);
  assert.deepEqual(judgeKept(created, { present: none, removed: new Set(["1"]) }), []);
  assert.equal(judgeKept(created, { present: none, removed: none }).length, 1);
});

test("a VM that is running and answers no command is a complaint; one that has ended meanwhile is none", () => {
  assert.deepEqual(judgeAnswers([{ vm: "vm-1", stateAfter: null, error: null }]), []);
  assert.deepEqual(judgeAnswers([{ vm: "vm-1", stateAfter: "failed", error: "it died" }]), []);
  assert.equal(judgeAnswers([{ vm: "vm-1", stateAfter: "running", error: "no answer" }]).length, 1);
});
