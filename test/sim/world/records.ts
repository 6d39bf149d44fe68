import { DatabaseSync } from "node:sqlite";
import type { Clock } from "@kiln/std";
import { Database } from "../../../packages/daemon/src/store/database.ts";
import type { Dice } from "../dice.ts";
import type { Life } from "../life.ts";
import { requireAlive } from "./simulated.ts";

/** An empty kiln.db of today's schema: to make one anew takes longer than to run a program. */
let empty: Uint8Array | null = null;

const emptyImage = (): Uint8Array => {
  if (empty !== null) return empty;
  const connection = new DatabaseSync(":memory:");
  using _database = new Database(":memory:", { connection });
  empty = connection.serialize();
  return empty;
};

/** Moments that a power failure may take the records back to, and the steps between two of them. */
const KEPT = 4;
const STEPS_BETWEEN = 61;

/**
 * The records of the simulated home in a real SQLite. A daemon that is killed takes none of its transactions along. A power
 * failure may: the log of writes is not synced at each of them.
 */
export class SimRecords {
  #connection: DatabaseSync;
  readonly #dice: Dice;
  /** Moments that a power failure may lead back to, the newest last. */
  #kept: Uint8Array[] = [];
  #steps = 0;

  constructor(dice: Dice) {
    this.#dice = dice;
    this.#connection = open(emptyImage());
  }

  /** As one daemon uses them: after its end it reads and writes nothing. */
  openFor(life: Life, clock: Clock): Database {
    const database = new Database(":memory:", { connection: this.#connection, clock });
    const calls = new Map<PropertyKey, unknown>();
    return new Proxy(database, {
      get: (target, key) => {
        const known = calls.get(key);
        if (known !== undefined) return known;
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        const call = (...args: unknown[]): unknown => {
          requireAlive(life, `database.${String(key)}`);
          return value.apply(target, args);
        };
        calls.set(key, call);
        return call;
      },
    });
  }

  /** Called at each step of a daemon. */
  onStep(): void {
    this.#steps += 1;
    if (this.#steps % STEPS_BETWEEN !== 0) return;
    this.#kept = [...this.#kept.slice(1 - KEPT), this.#connection.serialize()];
  }

  losePower(): void {
    const image = this.#dice.pick([...this.#kept, this.#connection.serialize()]);
    this.#connection.close();
    this.#connection = open(image);
    this.#kept = [];
  }

  close(): void {
    this.#connection.close();
  }
}

const open = (image: Uint8Array): DatabaseSync => {
  const connection = new DatabaseSync(":memory:");
  connection.deserialize(image);
  return connection;
};
