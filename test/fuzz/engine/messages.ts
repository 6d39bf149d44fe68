/** What a process under fuzz is told, and what it tells. */
export interface Job {
  readonly target: string;
  readonly seed: number;
  /** By the clock; 0: the corpus is only replayed. */
  readonly seconds: number;
  /** And at most so many inputs; null: as many as the time allows. */
  readonly maxExecutions: number | null;
  readonly scratch: string;
  /** Whether to look at the end for inputs that are worth keeping. */
  readonly grow: boolean;
  /** Files with inputs besides the committed ones; with them the corpus is left out and nothing is changed. */
  readonly only: readonly string[];
}

export interface Finding {
  readonly kind: "error" | "slow" | "hang" | "memory" | "crash";
  /** The same for all inputs that show the same defect, as far as one can tell. */
  readonly key: string;
  readonly message: string;
  /** In base64. */
  readonly input: string;
}

export interface Summary {
  readonly executions: number;
  readonly accepted: number;
  readonly seconds: number;
  /** CPU time of the process meanwhile, in seconds: a busy machine gives it a part of the clock's. */
  readonly cpuSeconds: number;
  /** Branches that any input has taken, each in up to eight classes of how often. */
  readonly features: number;
  /** Inputs beyond the committed ones that take a new branch, in base64, the shortest first. */
  readonly grown: readonly string[];
}

export type Message = { readonly type: "finding"; readonly finding: Finding } | { readonly type: "done"; readonly summary: Summary };

/** Where a process keeps the input that it is at: number and length, 32 bits each, then its bytes. */
export const CURRENT_FILE = "current";
export const CURRENT_HEADER_BYTES = 8;
