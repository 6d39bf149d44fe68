import type { OperationId, OperationKind, OperationOutput, OperationPart, Progress } from "@kiln/protocol";

/** What work tells those who wait for it. */
export interface WorkProgress {
  readonly phase: string;
  readonly progress: Progress | null;
  readonly parts: readonly OperationPart[];
  readonly output: OperationOutput | null;
}

export interface WorkContext {
  /** What the work is to those who look: further work that it needs is done for it. */
  readonly operation: OperationId;
  /** Aborts when the last caller has left. */
  readonly signal: AbortSignal;
  phase(name: string): void;
  report(progress: Progress): void;
  parts(parts: readonly OperationPart[]): void;
  /** What its commands write. */
  output(output: OperationOutput): void;
}

export interface Work<Result> {
  readonly kind: OperationKind;
  /** Callers with the same kind and key share one run. */
  readonly key: string;
  /** For people: the image or package it is about. */
  readonly subject: string;
  /** The result if it is there and whole, else null. Called outside and again inside the shared run. */
  find(options: { signal: AbortSignal }): Promise<Result | null>;
  make(context: WorkContext): Promise<Result>;
  /** What the operation's record keeps of the result. */
  describe(result: Result): string;
}

export interface WorkOptions {
  readonly signal: AbortSignal;
  /** Who asks, where it is an operation. */
  readonly operation?: OperationId;
  readonly onProgress?: ((progress: WorkProgress) => void) | undefined;
}

/** How work is watched by those who know phases and progress, but nothing of operations. */
export const watchOf = (context: WorkContext) => ({
  signal: context.signal,
  onPhase: (name: string) => context.phase(name),
  onProgress: (progress: Progress) => context.report(progress),
});

/** Work that is done once for all who want it, and is an operation that people can see. */
export interface JoinedWork {
  /** The operation that whoever asks for this work now would join; null where there is none. */
  inFlight(kind: OperationKind, key: string): OperationId | null;
  run<Result>(work: Work<Result>, options: WorkOptions): Promise<Result>;
}
