import { asKilnError, type ErrorCode, KilnError } from "@kiln/protocol";
import { isSuspended, SUSPENSION } from "../suspension.ts";

/** Why a saga is taken back. */
export interface SagaFailure {
  readonly code: ErrorCode;
  readonly detail: string;
}

/**
 * One step of a saga (Garcia-Molina and Salem, 1987). Both directions are idempotent: a crash between the work and its
 * record makes the next daemon do it again.
 */
export interface SagaStep<Context> {
  readonly name: string;
  /** Does the work; its output, plain JSON, is stored under the step's name before the next step begins. */
  run(context: Context): Promise<unknown>;
  /** In a daemon that finds the step's output in the log: what later steps need of it in memory. */
  resume?(context: Context, output: unknown): Promise<void>;
  /** Runs only if no step before it failed; matters where a saga carries on. */
  readonly needsAll?: boolean;
  /** Takes back what `run` may have done, however far it came. Absent where there is nothing to take back. */
  undo?(context: Context, failure: SagaFailure): Promise<void>;
}

export interface Saga<Context> {
  readonly name: string;
  /** What a failure does: it takes back what was done, or all other steps run and the failures are joined at the end (I22). */
  readonly onFailure: "undo" | "carry on";
  readonly steps: readonly SagaStep<Context>[];
}

/** How far a saga of an operation has come. JSON. */
export interface SagaRecord {
  readonly operation: string;
  readonly saga: string;
  /** From what the next daemon rebuilds the context. */
  readonly input: unknown;
  /** By step name, in the order in which they were done. */
  readonly outputs: Readonly<Record<string, unknown>>;
  /** Set once it goes backwards. */
  readonly failure: SagaFailure | null;
  /** How many daemons have taken it up again. */
  readonly resumes: number;
}

/** The log of sagas that have not ended. Each call is one transaction. */
export interface SagaLog {
  put(record: SagaRecord): void;
  remove(operation: string): void;
  list(): readonly SagaRecord[];
}

/** For what the daemon does by itself, whose records are log enough. */
export const NO_LOG: SagaLog = { put: () => undefined, remove: () => undefined, list: () => [] };

export interface SagaRun<Context> {
  readonly context: Context;
  readonly record: SagaRecord;
  readonly log: SagaLog;
  readonly signal: AbortSignal;
  readonly onStep: (name: string) => void;
  /** The saga that the operation goes on with; without one the log keeps the last record until the operation ends. */
  readonly next?: SagaRecord | null;
  /** Called at each place where a crash matters: see sagaPoints. */
  readonly checkpoint: (name: string) => Promise<void>;
}

/** The places of a saga at which a test can end the daemon. */
export const sagaPoints = <Context>(saga: Saga<Context>): readonly string[] =>
  saga.steps.flatMap(({ name, undo }) => [
    ...["begun", "done", "recorded"].map((place) => `${saga.name}.${name}.${place}`),
    ...(undo === undefined ? [] : [`${saga.name}.${name}.undone`]),
  ]);

/**
 * Runs a saga from where its record says it stands. Once it is done its record goes with the operation's end, or gives
 * way to the saga that follows. A failure or an abort takes back every step that was begun, the last first, and is
 * thrown; then the log forgets it. Where taking back fails too, the log keeps the saga for the next daemon, and the
 * error says so. Suspended, it stops where it stands and throws SUSPENSION: the log has it for the next daemon.
 */
export const runSaga = async <Context>(saga: Saga<Context>, run: SagaRun<Context>): Promise<void> => {
  const progress = new Progress(saga, run);
  if (run.record.failure !== null) {
    await progress.unwind(run.record.failure);
    throw new KilnError(run.record.failure.code, run.record.failure.detail);
  }
  if (saga.onFailure === "carry on") await progress.carryOn();
  else await progress.allOrNothing();
  if (run.next !== undefined && run.next !== null) run.log.put(run.next);
};

class Progress<Context> {
  readonly #saga: Saga<Context>;
  readonly #run: SagaRun<Context>;
  #record: SagaRecord;

  constructor(saga: Saga<Context>, run: SagaRun<Context>) {
    this.#saga = saga;
    this.#run = run;
    this.#record = run.record;
  }

  async advance(step: SagaStep<Context>): Promise<void> {
    const { context, signal, onStep } = this.#run;
    const known = this.#record.outputs[step.name];
    if (known !== undefined) return step.resume?.(context, known);
    signal.throwIfAborted();
    onStep(step.name);
    await this.#checkpoint(step, "begun");
    const output = (await step.run(context)) ?? null;
    await this.#checkpoint(step, "done");
    this.#put({ ...this.#record, outputs: { ...this.#record.outputs, [step.name]: output } });
    return this.#checkpoint(step, "recorded");
  }

  async allOrNothing(): Promise<void> {
    try {
      for (const step of this.#saga.steps) await this.advance(step);
    } catch (thrown) {
      if (isSuspended(this.#run.signal)) throw SUSPENSION;
      const error = asKilnError(thrown);
      await this.takeBack(error);
      throw error;
    }
  }

  async carryOn(): Promise<void> {
    const failures: KilnError[] = [];
    for (const step of this.#saga.steps) {
      if (step.needsAll === true && failures.length > 0) continue;
      try {
        await this.advance(step);
      } catch (error) {
        if (isSuspended(this.#run.signal)) throw SUSPENSION;
        failures.push(asKilnError(error));
      }
    }
    // what failed is tried again by whoever asks again
    if (failures.length > 0) throw joined(failures);
  }

  async takeBack(error: KilnError): Promise<void> {
    const failure = { code: error.code, detail: error.message };
    const failures: unknown[] = [error];
    try {
      this.#put({ ...this.#record, failure });
    } catch (unwritten) {
      // what the disk has no room to note is taken back all the same
      failures.push(unwritten);
    }
    try {
      await this.unwind(failure);
    } catch (left) {
      throw new KilnError(error.code, `${error.message}; and taking it back failed: ${asKilnError(left).message}`, {
        cause: new AggregateError([...failures, left]),
        hint: "restart the daemon: it tries again to take it back",
      });
    }
  }

  /** Every undo runs, even if one before it failed; their errors are joined. */
  async unwind(failure: SagaFailure): Promise<void> {
    const { steps } = this.#saga;
    const open = steps.findIndex(({ name }) => this.#record.outputs[name] === undefined);
    const failures: KilnError[] = [];
    for (const step of steps.slice(0, open === -1 ? steps.length : open + 1).toReversed()) {
      if (step.undo === undefined) continue;
      try {
        await step.undo(this.#run.context, failure);
        await this.#checkpoint(step, "undone");
      } catch (error) {
        failures.push(asKilnError(error));
      }
    }
    if (failures.length > 0) throw joined(failures);
    this.#run.log.remove(this.#record.operation);
  }

  #put(record: SagaRecord): void {
    this.#record = record;
    this.#run.log.put(record);
  }

  #checkpoint(step: SagaStep<Context>, place: string): Promise<void> {
    return this.#run.checkpoint(`${this.#saga.name}.${step.name}.${place}`);
  }
}

const joined = (failures: readonly KilnError[]): KilnError => {
  const [only] = failures;
  if (failures.length === 1 && only !== undefined) return only;
  const words = failures.map((failure) => failure.message).join("; ");
  return new KilnError("INTERNAL", words, { cause: new AggregateError(failures) });
};
