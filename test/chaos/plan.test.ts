import assert from "node:assert/strict";
import { test } from "node:test";
import { planSeed } from "./plan.ts";

const size = { driver: "fake", ops: 200, clients: 8 } as const;

test("a seed is its plan: the same commands for each client and the same faults, each time", () => {
  assert.deepEqual(planSeed(7, size), planSeed(7, size));
  assert.notDeepEqual(planSeed(7, size).clients, planSeed(8, size).clients);
});

test("every command is somebody's, and every fault comes while commands are left", () => {
  const { clients, faults } = planSeed(3, size);
  assert.equal(clients.length, size.clients);
  assert.equal(clients.flat().length, size.ops);
  assert.ok(faults.length > 0 && faults.every(({ after }) => after >= size.clients && after < size.ops));
});

test("a few seeds have every kind of command, and of fault that the driver knows", () => {
  const plans = Array.from({ length: 60 }, (_, seed) => planSeed(seed, { ...size, driver: "qemu" }));
  const commands = new Set(plans.flatMap(({ clients }) => clients.flat().map(({ kind }) => kind)));
  const faults = new Set(plans.flatMap((plan) => plan.faults.map(({ fault }) => fault.kind)));
  assert.equal(commands.size, 25);
  assert.deepEqual([...faults].toSorted(), ["fill-disk", "freeze-vmm", "kill-daemon", "kill-vmm", "registry", "stop-daemon"]);
});
