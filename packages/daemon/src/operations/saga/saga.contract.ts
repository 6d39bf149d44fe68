import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runSaga, type Saga, type SagaLog, type SagaRecord, sagaPoints } from "./saga.ts";

/** A place in which a saga can run, and what an outsider sees of it. */
export interface SagaWorld<Context> extends AsyncDisposable {
  /** How its record begins. */
  readonly first: SagaRecord;
  readonly log: SagaLog;
  /** What a daemon works with; called again for the next daemon after a crash. Everything held goes with the scope. */
  open(record: SagaRecord, scope: AsyncDisposableStack): Promise<Context>;
  /** Ends this daemon as a crash would: what it had in memory is gone, what it started is not. */
  crash(): Promise<void>;
  /** What is there: records, processes, files, reservations. JSON, without what differs from run to run. */
  look(): Promise<unknown>;
}

class Crash extends Error {
  override readonly name = "Crash";
}

/** Never settles: a daemon that was killed does nothing more. */
const dead = (): Promise<never> => new Promise(() => undefined);

interface Drive {
  /** A place of sagaPoints at which it crashes. */
  readonly crashAt?: string;
  /** A place at which it fails. */
  readonly failAt?: string;
  /** A step that is done twice. */
  readonly twice?: string;
}

const drive = async <Context>(saga: Saga<Context>, world: SagaWorld<Context>, how: Drive = {}): Promise<"done" | "crashed"> => {
  const found = world.log.list()[0];
  const record = found === undefined ? world.first : { ...found, resumes: found.resumes + 1 };
  world.log.put(record);
  await using scope = new AsyncDisposableStack();
  const context = await world.open(record, scope);
  const crashed = Promise.withResolvers<"crashed">();
  const checkpoint = async (name: string): Promise<void> => {
    if (name === how.failAt) throw new Crash(name);
    if (name !== how.crashAt) return;
    await world.crash();
    crashed.resolve("crashed");
    await dead();
  };
  const steps = saga.steps.map((step) =>
    step.name !== how.twice
      ? step
      : {
          ...step,
          run: async (given: Context) => {
            await step.run(given);
            return step.run(given);
          },
          undo: async (given: Context, failure: Parameters<NonNullable<typeof step.undo>>[1]) => {
            await step.undo?.(given, failure);
            await step.undo?.(given, failure);
          },
        },
  );
  const never = new AbortController().signal;
  const run = runSaga({ ...saga, steps }, { context, record, log: world.log, signal: never, onStep: () => undefined, checkpoint });
  const ended = run.then(() => "done" as const);
  const result = await Promise.race([ended, crashed.promise]);
  if (result === "done") world.log.remove(record.operation);
  return result;
};

/**
 * What every saga has to pass, applied by one call: each step done twice, a failure at each place taken back to the
 * start, a crash at each place taken up by the next daemon.
 */
export const sagaContract = <Context>(saga: Saga<Context>, create: () => Promise<SagaWorld<Context>>): void => {
  const points = sagaPoints(saga);
  const forward = points.filter((point) => !point.endsWith(".undone"));

  const endOf = async (): Promise<unknown> => {
    await using world = await create();
    assert.equal(await drive(saga, world), "done");
    return await world.look();
  };

  describe(`the saga ${saga.name}`, () => {
    for (const { name } of saga.steps) {
      test(`step ${name} done twice changes nothing more`, async () => {
        const expected = await endOf();
        await using world = await create();
        assert.equal(await drive(saga, world, { twice: name }), "done");
        assert.deepEqual(await world.look(), expected);
      });
    }

    for (const point of saga.onFailure === "undo" ? forward : []) {
      test(`a failure at ${point} is taken back to the start`, async () => {
        await using world = await create();
        const before = await world.look();
        await assert.rejects(drive(saga, world, { failAt: point }), { message: new RegExp(point.replaceAll(".", "\\.")) });
        assert.deepEqual(await world.look(), before);
        assert.deepEqual(world.log.list(), [], "the log forgets it");
      });
    }

    for (const { name } of saga.onFailure === "undo" ? saga.steps : []) {
      test(`taking back twice after ${name} changes nothing more`, async () => {
        await using world = await create();
        const before = await world.look();
        await assert.rejects(drive(saga, world, { failAt: `${saga.name}.${name}.done`, twice: name }));
        assert.deepEqual(await world.look(), before);
      });
    }

    for (const point of forward) {
      test(`I35 after a crash at ${point} the next daemon brings it to its end`, async () => {
        const expected = await endOf();
        await using world = await create();
        assert.equal(await drive(saga, world, { crashAt: point }), "crashed");
        assert.equal(await drive(saga, world), "done");
        assert.deepEqual(await world.look(), expected);
      });
    }

    for (const point of points.filter((one) => one.endsWith(".undone"))) {
      test(`I35 after a crash at ${point} the next daemon takes the rest back`, async () => {
        await using world = await create();
        const before = await world.look();
        const last = saga.steps.at(-1);
        assert.ok(last);
        const failAt = `${saga.name}.${last.name}.done`;
        assert.equal(await drive(saga, world, { failAt, crashAt: point }), "crashed");
        await assert.rejects(drive(saga, world), { message: /.+/ });
        assert.deepEqual(await world.look(), before);
        assert.deepEqual(world.log.list(), []);
      });
    }
  });
};
