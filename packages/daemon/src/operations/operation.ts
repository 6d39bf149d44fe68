import type {
  OperationId,
  OperationKind,
  OperationOutput,
  OperationPart,
  OperationReport,
  OperationView,
  OperationWait,
  Progress,
} from "@kiln/protocol";
import { asKilnError, causesOf, KilnError } from "@kiln/protocol";
import { type Clock, Deferred } from "@kiln/std";
import { OPERATION_LIMITS } from "./limits.ts";
import { isSuspended, SUSPENSION } from "./suspension.ts";

/** What the code of an operation may say about itself while it runs. */
export interface OperationContext {
  readonly id: OperationId;
  /** Who asked: callers take turns where they have to wait. */
  readonly caller: string;
  /** Aborts when the operation is cancelled. */
  readonly signal: AbortSignal;
  /** Ends the phase before and begins `name`. */
  phase(name: string): void;
  report(progress: Progress | null): void;
  /** How far each part of the phase is; they go with the operation's end. */
  parts(parts: readonly OperationPart[]): void;
  /** What its commands write; it goes with the operation's end. */
  output(output: OperationOutput): void;
  /** What it has found, where that is more than its result. */
  found(report: OperationReport): void;
  /** The place in a queue, counted from 1; null out of it. */
  position(place: number | null, queue: OperationWait["for"]): void;
}

export interface OperationSpec {
  readonly kind: OperationKind;
  readonly key: string;
  readonly subject: string;
  readonly joined?: OperationId | null;
  readonly parent?: OperationId | null;
  readonly caller?: string;
}

/** A change that is to be written down. */
export interface OperationChange {
  readonly before: OperationView;
  readonly after: OperationView;
}

/** Wakes somebody who watches. `step`: more than progress. */
type Wake = (step: boolean) => void;

/** Who asks where nobody says so, and for what the daemon does by itself. */
export const NO_CALLER = "";

const timestamp = (clock: Clock): string => new Date(clock.now()).toISOString();

/** One operation that this daemon runs: its view, its signal, and those who watch it. */
export class LiveOperation {
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #watchers = new Set<Wake>();
  readonly #onChange: (change: OperationChange) => void;
  /** Its end; rejects with DAEMON_UNREACHABLE where the next daemon goes on with it. */
  readonly ended = new Deferred<OperationView>();
  readonly #caller: string;
  readonly #hasSaga: boolean;
  #view: OperationView;
  #phaseBegan: number | null = null;
  #waitBegan = 0;
  #hasLeft = false;
  /** Asked at each view: how many callers wait for the work. */
  countWaiters: () => number = () => 1;

  /** `hasSaga`: its phases are written down with its saga's records, not by themselves. */
  constructor(
    view: OperationView,
    options: { clock: Clock; caller: string; hasSaga: boolean; onChange: (change: OperationChange) => void },
  ) {
    this.#clock = options.clock;
    this.#caller = options.caller;
    this.#hasSaga = options.hasSaga;
    this.#onChange = options.onChange;
    this.#view = view;
    this.ended.promise.catch(() => undefined); // it is reported to those who wait, and nobody has to
  }

  /** How an operation begins. */
  static firstView(id: OperationId, spec: OperationSpec, clock: Clock): OperationView {
    return {
      id,
      kind: spec.kind,
      key: spec.key,
      subject: spec.subject,
      state: "running",
      phase: null,
      position: null,
      progress: null,
      parts: [],
      output: null,
      waiters: 1,
      joined: spec.joined ?? null,
      parent: spec.parent ?? null,
      waits: [],
      startedAt: timestamp(clock),
      finishedAt: null,
      phases: [],
      error: null,
      result: null,
      report: null,
    };
  }

  get id(): OperationId {
    return this.#view.id as OperationId;
  }

  get kind(): OperationKind {
    return this.#view.kind;
  }

  get key(): string {
    return this.#view.key;
  }

  get state(): OperationView["state"] {
    return this.#view.state;
  }

  get view(): OperationView {
    return this.#view.finishedAt === null ? { ...this.#view, waiters: this.countWaiters() } : this.#view;
  }

  get context(): OperationContext {
    return {
      id: this.#view.id as OperationId,
      caller: this.#caller,
      signal: this.#abort.signal,
      phase: (name) => {
        if (name === this.#view.phase) return;
        this.#change({ phases: this.#closedPhases(), phase: name, progress: null, parts: [] }, !this.#hasSaga);
      },
      report: (progress) => this.#change({ progress }, false),
      parts: (parts) => this.#change({ parts: [...parts] }, false),
      output: (output) => this.#change({ output }, false),
      found: (report) => this.#change({ report }, false),
      position: (place, queue) => this.#stand(place, queue),
    };
  }

  get isSuspended(): boolean {
    return isSuspended(this.#abort.signal);
  }

  /** Coming and going are written down, moving up is not. */
  #stand(place: number | null, queue: OperationWait["for"]): void {
    const { state, waits } = this.#view;
    if (place === null) {
      if (state !== "queued") return;
      const last = waits.at(-1);
      const stood = last === undefined ? [] : [{ ...last, ms: round(this.#clock.monotonicMs() - this.#waitBegan) }];
      this.#change({ state: "running", position: null, waits: [...waits.slice(0, -1), ...stood] }, true);
    } else if (state === "queued") {
      this.#change({ position: place }, false);
    } else {
      this.#waitBegan = this.#clock.monotonicMs();
      this.#change({ state: "queued", position: place, waits: [...waits, { for: queue, position: place, ms: null }] }, true);
    }
  }

  cancel(reason: KilnError): void {
    this.#abort.abort(reason);
  }

  succeed(result: string | null): void {
    this.#end({ state: "succeeded", result });
  }

  /** The daemon ends: whatever it does is to stop where it stands. */
  suspend(): void {
    this.#abort.abort(SUSPENSION);
  }

  /** Its code has stopped and it has not ended: what is written down is for the next daemon. */
  leave(): void {
    this.#hasLeft = true;
    try {
      this.#change(
        { state: "running", phases: this.#closedPhases(), phase: null, progress: null, parts: [], output: null, position: null },
        true,
      );
    } finally {
      const { id } = this.#view;
      this.ended.reject(new KilnError("DAEMON_UNREACHABLE", `the daemon ends; the next one goes on with ${id}`, { operation: id }));
    }
  }

  fail(thrown: unknown): void {
    const error = asKilnError(thrown);
    this.#end({
      state: error.code === "CANCELLED" ? "cancelled" : "failed",
      error: { code: error.code, detail: error.message, hint: error.hint, causes: [...error.remoteCauses, ...causesOf(error)] },
    });
  }

  /** Views from now to the end, the newest where several came at once. Steps come at once, progress and places no faster than anybody reads. */
  async *watch(options: { signal: AbortSignal }): AsyncGenerator<OperationView> {
    for (;;) {
      const [changed, stepped] = [new Deferred<void>(), new Deferred<void>()];
      const wake: Wake = (step) => {
        changed.resolve();
        if (step) stepped.resolve();
      };
      const leave = (): void => wake(true);
      this.#watchers.add(wake);
      options.signal.addEventListener("abort", leave, { once: true });
      try {
        const view = this.view;
        const toldMs = this.#clock.monotonicMs();
        yield view;
        if (view.finishedAt !== null || this.#hasLeft) return;
        await changed.promise;
        await this.#pause(toldMs, stepped.promise);
        options.signal.throwIfAborted();
      } finally {
        this.#watchers.delete(wake);
        options.signal.removeEventListener("abort", leave);
      }
    }
  }

  /** Until a step, or until so long after it was last told that it may be told again. */
  async #pause(toldMs: number, stepped: Promise<void>): Promise<void> {
    const leftMs = toldMs + OPERATION_LIMITS.watchMs - this.#clock.monotonicMs();
    if (leftMs <= 0) return;
    const enough = new AbortController();
    const over = (): void => undefined; // and an abort says that a step came first
    await Promise.race([stepped, this.#clock.sleep(leftMs, { signal: enough.signal }).then(over, over)]);
    enough.abort();
  }

  #closedPhases(): OperationView["phases"] {
    const now = this.#clock.monotonicMs();
    const { phase, phases } = this.#view;
    const closed = phase === null || this.#phaseBegan === null ? phases : [...phases, { name: phase, ms: round(now - this.#phaseBegan) }];
    this.#phaseBegan = now;
    return closed;
  }

  #change(change: Partial<OperationView>, durable: boolean): void {
    if (this.#view.finishedAt !== null) return;
    const before = this.#view;
    this.#view = { ...before, ...change };
    // who gets in moves up all who wait behind: none of them costs a copy or a call
    if (durable) this.#onChange({ before, after: this.view });
    const step = durable || change.phase !== undefined;
    for (const wake of this.#watchers) wake(step);
  }

  #end(change: Partial<OperationView>): void {
    try {
      this.#change(
        {
          ...change,
          phases: this.#closedPhases(),
          phase: null,
          parts: [],
          output: null,
          position: null,
          finishedAt: timestamp(this.#clock),
        },
        true,
      );
    } finally {
      this.ended.resolve(this.#view);
    }
  }
}

const round = (ms: number): number => Math.round(ms * 1000) / 1000;
