import type { OperationView } from "@kiln/protocol";
import type { SagaRecord } from "./saga/saga.ts";

/** Where operations are kept. Synchronous; each call is one transaction. */
export interface OperationStore {
  /** The operation, its key and the beginning of its saga together. */
  insert(view: OperationView, how: { idempotency: { key: string; fingerprint: string } | null; saga: SagaRecord | null }): void;
  /** An operation that has ended takes its saga along, but for one that is still to be taken back. */
  update(view: OperationView): void;
  get(id: string): OperationView | null;
  findByIdempotencyKey(key: string): { view: OperationView; fingerprint: string } | null;
  list(options: { activeOnly: boolean }): OperationView[];
  /** Forgets the oldest ended ones past the store's limit. */
  trim(): void;
}
