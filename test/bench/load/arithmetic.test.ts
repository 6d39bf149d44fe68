import assert from "node:assert/strict";
import { test } from "node:test";
import { coldBoots, failuresByType, runsOf, split } from "./arithmetic.ts";

const phases = (times: Readonly<Record<string, number>>) => Object.entries(times).map(([name, ms]) => ({ name, ms }));

test("a run's time is what it queued for, what was made for all, and the rest, which is its own", () => {
  const create = {
    kind: "vm.create",
    phases: phases({ resolve: 3, "image.pull": 500, "rootfs.build": 100, reserve: 2 }),
    waits: [],
  } as const;
  const start = {
    kind: "vm.start",
    phases: phases({ claim: 1_001, disks: 5, boot: 230, command: 20, live: 1 }),
    waits: [
      { for: "capacity", position: 4, ms: 1_000 },
      { for: "boot", position: 1, ms: 30 },
    ],
  } as const;
  assert.deepEqual(split({ ms: 2_000, operations: [create, start] }), { queue: 1_030, shared: 603, service: 229, outside: 138 });
});

test("a start that has waited for a kernel has booted cold", () => {
  const start = (times: Readonly<Record<string, number>>) => ({
    operations: [{ kind: "vm.start" as const, phases: phases(times), waits: [] }],
  });
  const reports = [start({ vmm: 9, kernel: 900, setup: 50 }), start({ restore: 30, agent: 20, setup: 50 }), { operations: [] }];
  assert.equal(coldBoots(reports), 1);
});

test("a wait that a crash has lost counts as none", () => {
  const start = { kind: "vm.start", phases: phases({ claim: 7 }), waits: [{ for: "capacity", position: 1, ms: null }] } as const;
  assert.deepEqual(split({ ms: 9, operations: [start] }), { queue: 0, shared: 0, service: 7, outside: 2 });
});

test("failures are counted by their code, in the order of the codes", () => {
  const reports = ["QUEUE_FULL", null, "GUEST_AGENT_TIMEOUT", "QUEUE_FULL"].map((failure) => ({ failure }));
  assert.deepEqual(Object.entries(failuresByType(reports)), [
    ["GUEST_AGENT_TIMEOUT", 1],
    ["QUEUE_FULL", 2],
  ]);
  assert.deepEqual(failuresByType([{ failure: null }]), {});
});

test("work that ran is what succeeded and joined no other", () => {
  const operations = [
    { kind: "image.pull", joined: null, state: "succeeded" },
    { kind: "image.pull", joined: "op_1", state: "succeeded" },
    { kind: "rootfs.build", joined: null, state: "failed" },
    { kind: "kernel.build", joined: null, state: "succeeded" },
    { kind: "kernel.build", joined: null, state: "succeeded" },
    { kind: "vm.create", joined: null, state: "succeeded" },
  ] as const;
  assert.deepEqual(runsOf(operations), { "image.pull": 1, "rootfs.build": 0, "kernel.build": 2 });
});
