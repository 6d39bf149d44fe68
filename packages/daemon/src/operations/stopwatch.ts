import type { Core } from "./core.ts";
import type { OperationContext } from "./operation.ts";

/** Milliseconds by phase, in the operation and in the record. */
export class Stopwatch {
  readonly #core: Pick<Core, "clock">;
  readonly #context: Pick<OperationContext, "phase">;
  readonly #timings: Record<string, number> = {};
  readonly #began: number;
  #phase: string | null = null;
  #phaseBegan = 0;

  constructor(core: Pick<Core, "clock">, context: Pick<OperationContext, "phase">) {
    this.#core = core;
    this.#context = context;
    this.#began = core.clock.monotonicMs();
  }

  phase(name: string): void {
    this.#close();
    this.#phase = name;
    this.#context.phase(name);
  }

  /** `steps` are parts of the guest's setup. */
  end(steps: Readonly<Record<string, number>>): Record<string, number> {
    this.#close();
    this.#timings["total"] = round(this.#core.clock.monotonicMs() - this.#began);
    const named = Object.entries(steps).map(([name, ms]): [string, number] => [`setup.${name}`, round(ms)]);
    return { ...this.#timings, ...Object.fromEntries(named) };
  }

  #close(): void {
    const now = this.#core.clock.monotonicMs();
    if (this.#phase !== null) this.#timings[this.#phase] = round(now - this.#phaseBegan);
    this.#phase = null;
    this.#phaseBegan = now;
  }
}

const round = (ms: number): number => Math.round(ms * 100) / 100;
