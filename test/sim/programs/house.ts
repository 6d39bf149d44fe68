import { KilnError } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { Scheduler } from "../scheduler.ts";
import type { SimDaemon, SimWorld } from "../world/world.ts";
import { Moves } from "./images.ts";

/** The daemon ended before it had answered. */
export const GONE = Symbol("gone");
export type Gone = typeof GONE;

/** Longer than anything in a program takes: who waits for a step that never comes goes on then. */
const PATIENCE_MS = 120_000;

/** Where clients find the daemon: they are cut off when it ends, and wait for the next one as the real ones do. */
export class House {
  readonly world: SimWorld;
  readonly scheduler: Scheduler;
  /** How many daemons have ended without an order. */
  crashes = 0;
  /** The program is over: nothing goes wrong any more. */
  isSettling = false;
  /** How often the power has failed. */
  outages = 0;
  /** Guests of a higher number were booted by the daemon that runs. */
  lastPidBefore = 0;
  readonly moves = new Moves();
  /** Published files that the program has damaged. */
  readonly damaged = new Set<string>();
  readonly #break: (core: Core) => Core;
  #open: { readonly daemon: SimDaemon; readonly core: Core; readonly cut: Deferred<Gone> } | null = null;
  #opened = new Deferred<void>();
  #starting: Promise<void> | null = null;
  /** Of the daemon that runs, or is being started. */
  #died = new Deferred<Gone>();
  /** Rejects where a daemon cannot be started. */
  readonly failed = new Deferred<never>();
  readonly #awaited: { readonly step: number; readonly reached: Deferred<void> }[] = [];

  /** `break`: what is wrong with the core that clients get, for tests of the checks. */
  constructor(world: SimWorld, options: { break?: (core: Core) => Core } = {}) {
    this.world = world;
    this.scheduler = world.scheduler;
    this.#break = options.break ?? ((core) => core);
  }

  /** null while no daemon takes requests. */
  get core(): Core | null {
    return this.#open?.core ?? null;
  }

  get daemon(): SimDaemon | null {
    return this.#open?.daemon ?? null;
  }

  /** Returning means that a daemon takes requests, however many have died on the way there. */
  start(): Promise<void> {
    this.#starting ??= this.#start().finally(() => (this.#starting = null));
    return this.#starting;
  }

  async #start(): Promise<void> {
    for (;;) {
      const died = new Deferred<Gone>();
      this.#died = died;
      this.lastPidBefore = this.world.host.boots;
      const daemon = await Promise.race([this.world.startDaemon(), died.promise]);
      if (daemon === GONE) continue;
      this.#open = { daemon, core: this.#break(daemon.core), cut: new Deferred() };
      this.#opened.resolve();
      return;
    }
  }

  kill(): void {
    this.world.killDaemon();
    this.#crashed();
  }

  losePower(): void {
    this.outages += 1;
    this.world.losePower();
    this.#crashed();
  }

  /** The dice have killed the daemon: somebody starts the next one. */
  readonly onKill = (): void => {
    this.#crashed();
    this.start().catch((error: unknown) => this.failed.reject(error));
  };

  /** New requests wait for the next daemon; those under way are cut off at its end. */
  async stop(): Promise<void> {
    await this.#starting;
    const [open, died] = [this.#open, this.#died];
    if (open === null) return;
    this.#shut();
    await Promise.race([this.world.stopDaemon(), died.promise]);
    open.cut.resolve(GONE);
  }

  #crashed(): void {
    this.crashes += 1;
    const open = this.#open;
    this.#shut();
    open?.cut.resolve(GONE);
    this.#died.resolve(GONE);
  }

  #shut(): void {
    if (this.#open !== null) this.#opened = new Deferred();
    this.#open = null;
  }

  /** A request and its answer. GONE: the daemon may have begun it or not. Throws what `work` throws. */
  async ask<Result>(work: (core: Core, daemon: SimDaemon) => Result | Promise<Result>): Promise<Result | Gone> {
    for (;;) {
      const open = this.#open;
      if (open === null) await this.#opened.promise;
      await this.scheduler.step("client.request");
      if (open === null || open !== this.#open) continue;
      const answered = await Promise.race([unlessEnding(() => work(open.core, open.daemon)), open.cut.promise]);
      await this.scheduler.step("client.answer");
      return open === this.#open ? answered : GONE;
    }
  }

  /** Called before each step. */
  onStep(): void {
    const { steps } = this.scheduler;
    for (const one of this.#awaited.filter(({ step }) => step <= steps)) {
      this.#awaited.splice(this.#awaited.indexOf(one), 1);
      one.reached.resolve();
    }
  }

  /** So many steps later, or where nobody else has anything to do. */
  async later(steps: number): Promise<void> {
    const reached = new Deferred<void>();
    this.#awaited.push({ step: this.scheduler.steps + steps, reached });
    const patience = new AbortController();
    const slept = this.scheduler.clockOf().sleep(PATIENCE_MS, { signal: patience.signal });
    slept.catch(() => undefined); // it is not needed any more
    await Promise.race([reached.promise, slept]);
    patience.abort();
  }

  /** Runs `work` with a signal that aborts after so many steps; null: the client has gone before its end. */
  async leavingAfter<Result>(steps: number | null, work: (signal: AbortSignal) => Promise<Result>): Promise<Result | null> {
    const left = new AbortController();
    if (steps !== null) void this.later(steps).then(() => left.abort(new KilnError("CANCELLED", "the client has gone")));
    try {
      return await work(left.signal);
    } catch (error) {
      if (left.signal.aborted && error === left.signal.reason) return null;
      throw error;
    }
  }
}

/** A daemon that ends in order says so to those who ask it. */
const unlessEnding = async <Result>(work: () => Result | Promise<Result>): Promise<Result | Gone> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KilnError && error.code === "DAEMON_UNREACHABLE") return GONE;
    throw error;
  }
};
