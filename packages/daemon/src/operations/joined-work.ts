import type { OperationId, OperationKind } from "@kiln/protocol";
import { asKilnError } from "@kiln/protocol";
import { SingleFlight } from "@kiln/std";
import type { JoinedWork, Work, WorkOptions, WorkProgress } from "../pipeline/work.port.ts";
import type { LiveOperation } from "./operation.ts";
import type { Operations } from "./operations.ts";
import { SUSPENSION } from "./suspension.ts";

interface Flying {
  /** null while it still looks whether there is anything to do. */
  operation: LiveOperation | null;
  /** Those who came meanwhile: they join what becomes of it. */
  readonly early: ((leader: LiveOperation) => void)[];
}

/** One run of the work, and who asked for it first. */
interface Flight {
  readonly key: string;
  readonly parent: OperationId | null;
  readonly signal: AbortSignal;
  readonly report: (progress: WorkProgress) => void;
}

/**
 * Single-flight over the registry of operations. The run that does the work is an operation with `joined: null`;
 * each caller who joins it is one with `joined` set to its id; a caller who finds the result there is none.
 */
export class RecordedWork implements JoinedWork {
  readonly #operations: Operations;
  readonly #flights = new SingleFlight<string, unknown, WorkProgress>();
  readonly #flying = new Map<string, Flying>();

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  inFlight(kind: OperationKind, key: string): OperationId | null {
    return (this.#flying.get(`${kind} ${key}`)?.operation?.view.id ?? null) as OperationId | null;
  }

  async run<Result>(work: Work<Result>, options: WorkOptions): Promise<Result> {
    const present = await work.find({ signal: options.signal });
    if (present !== null) return present;
    const key = `${work.kind} ${work.key}`;
    let joiner: LiveOperation | null = null;
    let isOver = false;
    const leave = new AbortController();
    const join = (leader: LiveOperation): void => {
      if (isOver) return;
      joiner = this.#openJoiner(work, options, leader);
      const { signal } = joiner.context;
      signal.addEventListener("abort", () => leave.abort(signal.reason), { once: true });
    };
    const onJoin = (): void => {
      const flying = this.#flying.get(key);
      if (flying === undefined) return;
      if (flying.operation !== null) join(flying.operation);
      else flying.early.push((leader) => attempt(() => join(leader), leave));
    };
    try {
      const result = (await this.#flights.run(key, (context) => this.#fly(work, { ...context, key, parent: options.operation ?? null }), {
        signal: AbortSignal.any([options.signal, leave.signal]),
        onJoin,
        ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      })) as Result;
      endJoiner(joiner, (one) => one.succeed(work.describe(result)));
      return result;
    } catch (error) {
      endJoiner(joiner, (one) => one.fail(one.isSuspended ? SUSPENSION : error));
      throw error;
    } finally {
      isOver = true;
    }
  }

  #openJoiner<Result>(work: Work<Result>, options: WorkOptions, leader: LiveOperation): LiveOperation {
    const { kind, key, subject } = work;
    return this.#operations.open({ kind, key, subject, joined: leader.view.id as OperationId, parent: options.operation ?? null });
  }

  async #fly<Result>(work: Work<Result>, flight: Flight): Promise<Result> {
    const { key, parent } = flight;
    const flying: Flying = { operation: null, early: [] };
    this.#flying.set(key, flying);
    try {
      const finished = await work.find({ signal: flight.signal });
      if (finished !== null) return finished;
      const operation = this.#operations.open({ kind: work.kind, key: work.key, subject: work.subject, parent });
      operation.countWaiters = () => this.#flights.waiters(key);
      flying.operation = operation;
      for (const join of flying.early.splice(0)) join(operation);
      return await this.#make(work, operation, flight);
    } finally {
      this.#flying.delete(key);
    }
  }

  async #make<Result>(work: Work<Result>, operation: LiveOperation, flight: Flight): Promise<Result> {
    const context = operation.context;
    let now: WorkProgress = { phase: work.kind, progress: null, parts: [], output: null };
    const tell = (change: Partial<WorkProgress>): void => {
      now = { ...now, ...change };
      flight.report(now);
    };
    try {
      const result = await work.make({
        operation: context.id,
        signal: AbortSignal.any([flight.signal, context.signal]),
        phase: (name) => {
          context.phase(name);
          tell({ phase: name, progress: null, parts: [] });
        },
        report: (progress) => {
          context.report(progress);
          tell({ progress });
        },
        parts: (parts) => {
          context.parts(parts);
          tell({ parts });
        },
        output: (output) => {
          context.output(output);
          tell({ output });
        },
      });
      operation.succeed(work.describe(result));
      return result;
    } catch (error) {
      operation.fail(operation.isSuspended ? SUSPENSION : error);
      throw asKilnError(error);
    }
  }
}

/** What fails for a joiner is not the fault of those whom it joins: it leaves. */
const attempt = (join: () => void, leave: AbortController): void => {
  try {
    join();
  } catch (error) {
    leave.abort(error);
  }
};

const endJoiner = (joiner: LiveOperation | null, end: (one: LiveOperation) => void): void => {
  if (joiner !== null) end(joiner);
};
