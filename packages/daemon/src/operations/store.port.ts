import type { OperationView } from "@kiln/protocol";

/** Where operations are kept. Synchronous; each call is one transaction. */
export interface OperationStore {
  insert(view: OperationView, idempotency: { key: string; fingerprint: string } | null): void;
  update(view: OperationView): void;
  get(id: string): OperationView | null;
  findByIdempotencyKey(key: string): { view: OperationView; fingerprint: string } | null;
  list(options: { activeOnly: boolean }): OperationView[];
  /** Forgets the oldest ended ones past the store's limit. */
  trim(): void;
}
