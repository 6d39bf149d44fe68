import assert from "node:assert/strict";
import { test } from "node:test";
import { Scheduler } from "../scheduler.ts";
import { create, live } from "./live.fixture.ts";
import { storm } from "./storm.fixture.ts";
import { isDead, type SimOptions, SimWorld } from "./world.ts";

const { signal } = new AbortController();
const MAX_STEPS = 30_000;

/** One run of a scenario in a world; what it was like at its end. */
const play = async (
  seed: number,
  scenario: (world: SimWorld) => Promise<void>,
  options: SimOptions = {},
): Promise<{ scheduler: Scheduler; world: SimWorld }> => {
  const scheduler = new Scheduler(seed, { trace: true, maxSteps: MAX_STEPS });
  const world = SimWorld.create(scheduler, options);
  await scheduler.run(() => scenario(world));
  return { scheduler, world };
};

/** Twice, step by step the same. */
const playTwice = async (seed: number, scenario: (world: SimWorld) => Promise<void>, options: SimOptions = {}): Promise<SimWorld> => {
  const [one, two] = [await play(seed, scenario, options), await play(seed, scenario, options)];
  assert.ok(one.scheduler.steps > 100);
  assert.deepEqual(one.scheduler.trace, two.scheduler.trace);
  return one.world;
};

test("the same seed gives the same steps", async () => {
  for (let seed = 1; seed <= 5; seed += 1) await playTwice(seed, live);
});

test("other seeds give other steps", async () => {
  const traces = new Set<string>();
  for (let seed = 1; seed <= 5; seed += 1) traces.add(JSON.stringify((await play(seed, live)).scheduler.trace));
  assert.equal(traces.size, 5);
});

const FAULTS = { slow: 0.01, registry: 0.05, disk: 0.005, vmm: 0.03, death: 0.01, channel: 0.01, port: 0.1 };

for (const [trouble, options] of [
  ["faults of every port", { faults: FAULTS }],
  ["daemons that are killed at any step", { faults: { kill: 0.005 } }],
  ["faults, kills, snapshots and a pool", { faults: { ...FAULTS, kill: 0.002 }, preboot: true, pool: "1" }],
] as const) {
  test(`a world with ${trouble} is replayed by its seed, and nothing is left behind in it`, async () => {
    for (let seed = 1; seed <= 6; seed += 1) {
      const world = await playTwice(seed, (made) => storm(made), options);
      assert.deepEqual(world.leftovers(), [], `seed ${seed}`);
    }
  });
}

test("a world whose power fails is replayed by its seed, and nothing is left behind in it", async () => {
  for (let seed = 1; seed <= 6; seed += 1) {
    const scenario = (world: SimWorld): Promise<void> =>
      storm(world, () => (world.scheduler.dice.chance(0.3) ? world.losePower() : undefined));
    const world = await playTwice(seed, scenario);
    assert.deepEqual(world.leftovers(), [], `seed ${seed}`);
  }
});

/** All that a daemon could change. */
const stateOf = (world: SimWorld): unknown => [
  world.disk.list("/home").map((path) => [path, world.disk.info(path)]),
  [...world.host.machines].map(({ spec }) => spec.id),
  world.ports.list(),
];

test("a daemon that was killed at any step does nothing any more, and its guests run on", async () => {
  const guests: number[] = [];
  for (let seed = 1; seed <= 30; seed += 1) {
    await play(seed, async (world) => {
      world.registry.put("web:1", { layers: ["base", "web"], command: ["web"] });
      const daemon = await world.startDaemon();
      void create(daemon, { name: "one", image: "web:1", ports: [{ hostPort: 0, guestPort: 7 }] });
      const steps = world.scheduler.dice.below(200);
      for (let step = 0; step < steps; step += 1) await world.scheduler.step("waits");
      world.killDaemon();
      const state = stateOf(world);
      const at = world.scheduler.trace?.length ?? 0;
      for (let step = 0; step < 50; step += 1) await world.scheduler.step("waits");
      await world.clock.sleep(10 * 60_000, { signal });
      assert.deepEqual(stateOf(world), state);
      assert.deepEqual(world.ports.list(), []);
      assert.ok(world.scheduler.trace?.slice(at).every((label) => !label.startsWith(daemon.life.name)));
      assert.throws(() => daemon.core.sagas.list(), isDead);
      assert.throws(() => daemon.core.operations.list({ all: true }), isDead);
      guests.push(world.host.machines.size);
    });
  }
  assert.deepEqual(new Set(guests), new Set([0, 1]));
});

test("the next daemon goes on with what the killed one was at", async () => {
  const states = new Set<string>();
  for (let seed = 1; seed <= 20; seed += 1) {
    await play(seed, async (world) => {
      world.registry.put("web:1", { layers: ["base", "web"], command: ["web"] });
      const daemon = await world.startDaemon();
      void create(daemon, { name: "one", image: "web:1" });
      const steps = world.scheduler.dice.below(200);
      for (let step = 0; step < steps; step += 1) await world.scheduler.step("waits");
      const begun = daemon.core.operations.list({ all: true });
      world.killDaemon();
      const next = await world.startDaemon();
      await next.core.operations.drain();
      for (const { id } of begun.filter(({ kind }) => kind === "vm.create")) states.add(next.core.operations.get(id).state);
      assert.equal(next.core.vms.find("one")?.state, "running");
    });
  }
  assert.deepEqual(states, new Set(["succeeded"]));
});

test("a pool that closes cancels what it has begun, and nothing fails of that with an error that nobody knows", async () => {
  const ends = new Set<string | undefined>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const scenario = async (world: SimWorld): Promise<void> => {
      const { core } = await world.startDaemon();
      const steps = world.scheduler.dice.below(100);
      for (let step = 0; step < steps; step += 1) await world.scheduler.step("waits");
      await core.pool[Symbol.asyncDispose]();
      for (const { error } of core.operations.list({ all: true })) ends.add(error?.code);
    };
    await play(seed, scenario, { preboot: true, pool: "1" });
  }
  assert.deepEqual(ends, new Set([undefined, "CANCELLED"]));
});

test("a client reaches the guest through a published port, and none where the daemon has gone", async () => {
  await play(3, async (world) => {
    world.registry.put("web:1", { layers: ["web"], command: ["web"] });
    const daemon = await world.startDaemon();
    await create(daemon, { name: "one", image: "web:1", ports: [{ hostPort: 8080, guestPort: 7 }] });
    const connection = await world.ports.dialAt("127.0.0.1:8080/tcp")?.({ signal });
    await connection?.write(new TextEncoder().encode("echo"));
    assert.equal(new TextDecoder().decode((await connection?.read()) ?? undefined), "echo");
    world.killDaemon();
    assert.equal(world.ports.dialAt("127.0.0.1:8080/tcp"), null);
  });
});
