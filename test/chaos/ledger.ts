import { KilnError, type OperationView } from "@kiln/protocol";
import type { Failure, NonceRun, ToldEnd } from "./judge.ts";

/** What the clients of one seed have seen, for the judgement at its end. */
export class Ledger {
  readonly runs: NonceRun[] = [];
  readonly failures: Failure[] = [];
  readonly told: ToldEnd[] = [];
  /** VMs whose creation was acknowledged, and their names. */
  readonly created = new Map<string, string>();
  /** Commands that have not come back. */
  readonly stuck: string[] = [];
  /** Counts of commands by how they ended. */
  readonly outcomes = new Map<string, number>();
  readonly #starts = new Map<string, number>();

  /** A run of a nonce; `vm`: of a VM's own command, which each later start of that name may run again. */
  begin(nonce: string, what: string, vm: string | null = null): NonceRun {
    const before = vm === null ? 0 : this.#startsOf(vm);
    const most = (): number => 1 + (vm === null ? 0 : this.#startsOf(vm) - before);
    const run: NonceRun = { nonce, what, acknowledged: false, said: null, most };
    this.runs.push(run);
    return run;
  }

  countStart(vm: string): void {
    this.#starts.set(vm, this.#startsOf(vm) + 1);
  }

  tell(what: string, operation: OperationView): void {
    this.told.push({ id: operation.id, what, state: operation.state });
  }

  fail(what: string, error: Error, exit: Failure["exit"] = null): void {
    const code = error instanceof KilnError ? error.code : null;
    this.failures.push({ what, code, message: error.message, exit });
  }

  count(outcome: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }

  #startsOf(vm: string): number {
    return this.#starts.get(vm) ?? 0;
  }
}
