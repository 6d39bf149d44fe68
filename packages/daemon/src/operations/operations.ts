import { createHash } from "node:crypto";
import { ERROR_TABLE, type EventDraft, KilnError, type OperationId, type OperationView } from "@kiln/protocol";
import { abortable, type Clock, type RandomSource, randomHex } from "@kiln/std";
import type { Journal } from "./core.ts";
import { LiveOperation, NO_CALLER, type OperationChange, type OperationContext, type OperationSpec } from "./operation.ts";
import { operationEvent, resumedEvent } from "./operation-events.ts";
import type { SagaRecord } from "./saga/saga.ts";
import type { OperationStore } from "./store.port.ts";
import { SUSPENSION } from "./suspension.ts";
import { UnwrittenEnds } from "./unwritten-ends.ts";

const ID_BYTES = 8;
const TRIM_EVERY = 100;

export interface IdempotencyKey {
  readonly key: string;
  /** What was asked, its object included: the same key with another request is refused. */
  readonly request: unknown;
}

/** With what a saga begins. */
export interface FirstSaga {
  readonly name: string;
  readonly input: unknown;
}

export const firstRecord = (operation: string, { name, input }: FirstSaga): SagaRecord => ({
  ...{ operation, saga: name, input },
  ...{ outputs: {}, failure: null, resumes: 0 },
});

/** All operations: those that run are here, those that ended are in the store. */
export class Operations {
  readonly #live = new Map<string, LiveOperation>();
  readonly #store: OperationStore;
  readonly #clock: Clock;
  readonly #random: RandomSource;

  readonly #journal: Pick<Journal, "error">;
  readonly #stopping: AbortSignal;
  readonly #unwritten: UnwrittenEnds;
  #opened = 0;
  #isEnding = false;

  constructor(options: {
    store: OperationStore;
    clock: Clock;
    random: RandomSource;
    journal: Pick<Journal, "error">;
    stopping: AbortSignal;
  }) {
    this.#store = options.store;
    this.#journal = options.journal;
    this.#stopping = options.stopping;
    this.#clock = options.clock;
    this.#random = options.random;
    const { clock, stopping } = options;
    this.#unwritten = new UnwrittenEnds({ clock, stopping, write: ({ view, event }) => this.#store.update(view, event) });
  }

  /** Records a new operation as running. The caller ends it. */
  open(
    spec: OperationSpec,
    how: { idempotency?: { key: string; fingerprint: string } | null; saga?: FirstSaga | null } = {},
  ): LiveOperation {
    const id = `op_${randomHex(this.#random, ID_BYTES)}` as OperationId;
    const view = LiveOperation.firstView(id, spec, this.#clock);
    const saga = how.saga === undefined || how.saga === null ? null : firstRecord(id, how.saga);
    this.#store.insert(view, { idempotency: how.idempotency ?? null, saga, event: operationEvent(null, view) });
    this.#opened += 1;
    if (this.#opened % TRIM_EVERY === 0) this.#store.trim();
    return this.#keep(view, { caller: spec.caller ?? NO_CALLER, hasSaga: saga !== null });
  }

  /** An operation that an earlier daemon left running goes on under its id. */
  resume(id: string, work: (context: OperationContext) => Promise<string | null>): void {
    const view: OperationView = { ...(this.#store.get(id) ?? this.get(id)), state: "running", phase: null, progress: null, position: null };
    this.#write(view, resumedEvent(view));
    void run(this.#keep(view, { caller: NO_CALLER, hasSaga: true }), work);
  }

  #keep(view: OperationView, how: { caller: string; hasSaga: boolean }): LiveOperation {
    const live: LiveOperation = new LiveOperation(view, {
      ...how,
      clock: this.#clock,
      onChange: (change) => this.#onChange(live, change),
    });
    this.#live.set(view.id, live);
    return live;
  }

  /**
   * Starts `work` as an operation and returns at once. The same idempotency key and request: the operation that is
   * there already. Throws IDEMPOTENCY_CONFLICT for the same key with another request.
   */
  begin(spec: OperationSpec, work: (context: OperationContext) => Promise<string | null>, how: IdempotencyKey | null): OperationView {
    return this.#begin({ spec, idempotency: how, saga: null }, (context) => work(context));
  }

  /**
   * The same for work that is a saga: its log begins with the operation, and the next daemon takes it up if this one
   * does not end it.
   */
  beginSaga(
    what: { readonly spec: OperationSpec; readonly idempotency: IdempotencyKey | null; readonly saga: FirstSaga },
    work: (context: OperationContext, record: SagaRecord) => Promise<string | null>,
  ): OperationView {
    return this.#begin(what, (context) => work(context, firstRecord(context.id, what.saga)));
  }

  #begin(
    { spec, idempotency, saga }: { spec: OperationSpec; idempotency: IdempotencyKey | null; saga: FirstSaga | null },
    work: (context: OperationContext) => Promise<string | null>,
  ): OperationView {
    this.#stopping.throwIfAborted();
    if (this.#isEnding) throw new KilnError("DAEMON_UNREACHABLE", `the daemon ends and begins no ${spec.kind}`, { object: spec.subject });
    const known = this.recall(spec.kind, idempotency);
    if (known !== null) return known;
    const stored = idempotency === null ? null : { key: idempotency.key, fingerprint: fingerprint(spec.kind, idempotency.request) };
    const live = this.open(spec, { idempotency: stored, saga });
    void run(live, work);
    return live.view;
  }

  /** The operation that this key began. Throws IDEMPOTENCY_CONFLICT where it was another request. */
  recall(kind: OperationSpec["kind"], idempotency: IdempotencyKey | null): OperationView | null {
    const known = idempotency === null ? null : this.#store.findByIdempotencyKey(idempotency.key, { nowMs: this.#clock.now() });
    if (idempotency === null || known === null) return null;
    if (known.fingerprint === fingerprint(kind, idempotency.request)) return this.get(known.view.id);
    throw new KilnError("IDEMPOTENCY_CONFLICT", `the idempotency key ${idempotency.key} was used for another request`, {
      operation: known.view.id,
    });
  }

  /** Whether an operation was begun with this key. */
  hasKey(key: string): boolean {
    return this.#store.findByIdempotencyKey(key, { nowMs: this.#clock.now() }) !== null;
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(id: string): OperationView {
    const view = this.#live.get(id)?.view ?? this.#unwritten.get(id) ?? this.#store.get(id);
    if (view === null) throw new KilnError("OPERATION_NOT_FOUND", `there is no operation ${id}`, { object: id });
    return view;
  }

  /** null where it does not run in this daemon. */
  findLive(id: string): OperationView | null {
    return this.#live.get(id)?.view ?? null;
  }

  list(options: { all: boolean }): OperationView[] {
    return this.#store
      .list({ activeOnly: !options.all })
      .map((view) => this.#live.get(view.id)?.view ?? this.#unwritten.get(view.id) ?? view)
      .filter((view) => options.all || view.finishedAt === null);
  }

  count(state: "running" | "queued"): number {
    return [...this.#live.values()].filter((live) => live.state === state).length;
  }

  async wait(id: string, options: { signal: AbortSignal }): Promise<OperationView> {
    const live = this.#live.get(id);
    return live === undefined ? this.get(id) : abortable(live.ended.promise, options.signal);
  }

  async *watch(id: string, options: { signal: AbortSignal }): AsyncGenerator<OperationView> {
    const live = this.#live.get(id);
    if (live === undefined) yield this.get(id);
    else yield* live.watch(options);
  }

  /** Asks it to stop; an operation that has ended stays as it is. */
  cancel(id: string): OperationView {
    this.#live.get(id)?.cancel(new KilnError("CANCELLED", `the operation ${id} was cancelled`, { operation: id }));
    return this.get(id);
  }

  /** The same for all of these kinds on one key. Looks at what runs here and at no record: five hundred removals ask while five hundred wait. */
  cancelOn(key: string, { kinds }: { readonly kinds: readonly OperationSpec["kind"][] }): void {
    for (const live of [...this.#live.values()]) if (live.key === key && kinds.includes(live.kind)) this.cancel(live.id);
  }

  /** Resolves when every operation that runs has ended, or is left to the next daemon. */
  async drain(): Promise<void> {
    await Promise.allSettled([...this.#live.values()].map((live) => live.ended.promise));
    this.#unwritten.flush();
  }

  /** The daemon ends: what can stop where it stands stops, the rest goes on to its end. Returns how many there are. */
  suspendAll(): number {
    this.#isEnding = true;
    for (const live of this.#live.values()) live.suspend();
    return this.#live.size;
  }

  cancelAll(): void {
    for (const id of this.#live.keys()) this.cancel(id);
  }

  /** What an earlier daemon left running and nobody takes up has failed with it. Returns how many. */
  failInterrupted(resumed: ReadonlySet<string> = new Set()): number {
    const left = this.#store.list({ activeOnly: true }).filter((view) => !resumed.has(view.id));
    for (const view of left) {
      const { hint } = ERROR_TABLE.INTERRUPTED;
      const error = { code: "INTERRUPTED", detail: "the daemon ended while this ran", hint, causes: [] };
      const finishedAt = new Date(this.#clock.now()).toISOString();
      const failed: OperationView = { ...view, state: "failed", phase: null, position: null, finishedAt, error };
      this.#store.update(failed, operationEvent(view, failed));
    }
    this.#store.trim();
    return left.length;
  }

  #onChange(live: LiveOperation, { before, after: view }: OperationChange): void {
    if (view.finishedAt !== null) this.#live.delete(live.id);
    this.#write(view, operationEvent(before, view));
  }

  /** Never throws: a full disk must not keep an operation from ending for those who wait for it, nor for those who come later. */
  #write(view: OperationView, event: EventDraft | null): void {
    try {
      this.#store.update(view, event);
    } catch (error) {
      this.#journal.error({ operation: view.id, state: view.state, error: String(error) }, "an operation could not be written down");
      if (view.finishedAt !== null) this.#unwritten.add({ view, event });
    }
  }
}

const run = async (live: LiveOperation, work: (context: OperationContext) => Promise<string | null>): Promise<void> => {
  try {
    live.succeed(await work(live.context));
  } catch (error) {
    if (error === SUSPENSION) live.leave();
    else live.fail(error);
  }
};

const fingerprint = (kind: OperationSpec["kind"], request: unknown): string =>
  createHash("sha256")
    .update(JSON.stringify([kind, request]))
    .digest("hex");
