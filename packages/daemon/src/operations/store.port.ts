import type { EventDraft, OperationView } from "@kiln/protocol";
import type { SagaRecord } from "./saga/saga.ts";

export interface InsertOperation {
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null;
  readonly saga: SagaRecord | null;
  readonly event: EventDraft | null;
}

/** Where operations are kept. Synchronous; each call is one transaction. */
export interface OperationStore {
  /** The operation, its key, the beginning of its saga and its event together. */
  insert(view: OperationView, how: InsertOperation): void;
  /** An operation that has ended takes its saga along, but for one that is still to be taken back. With it goes what the journal says of it. */
  update(view: OperationView, event: EventDraft | null): void;
  get(id: string): OperationView | null;
  /** A key that is older than the window is forgotten here, so that it can be used anew. */
  findByIdempotencyKey(key: string, options: { nowMs: number }): { view: OperationView; fingerprint: string } | null;
  list(options: { activeOnly: boolean }): OperationView[];
  /** Forgets the oldest ended ones past the store's limit. */
  trim(): void;
}
