import type { EventDraft, OperationView } from "@kiln/protocol";
import { type Database, declareWrite } from "./database.ts";
import { STORE_LIMITS } from "./limits.ts";

/** Ended operations that are kept, and with them their idempotency keys. */
const KEPT_OPERATIONS = 2000;

const [INSERT, UPDATE, TRIM] = [declareWrite("operation.insert"), declareWrite("operation.update"), declareWrite("operation.trim")];
const FORGET_KEY = declareWrite("operation.forgetKey");

/** Operations of the first version have no parent and no waits. */
const parseRow = (row: Record<string, unknown>): OperationView => {
  const view = JSON.parse(String(row["record"])) as Omit<OperationView, "parent" | "waits"> & Partial<OperationView>;
  return { ...view, parent: view.parent ?? null, waits: view.waits ?? [] };
};

interface Insert {
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null;
  readonly saga: { readonly operation: string } | null;
  readonly event: EventDraft | null;
}

/** Implements operations/store.port.ts, which ranks above it. */
export class SqliteOperationStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  insert(view: OperationView, how: Insert): void {
    const { idempotency, saga, event } = how;
    this.#database.write(INSERT, (run, tell) => {
      run(
        "INSERT INTO operations (id, started_at, active, record, idempotency_key, fingerprint) VALUES (?, ?, 1, ?, ?, ?)",
        ...[view.id, view.startedAt, JSON.stringify(view), idempotency?.key ?? null, idempotency?.fingerprint ?? null],
      );
      if (saga !== null) run("INSERT INTO sagas (operation, record) VALUES (?, ?)", view.id, JSON.stringify(saga));
      if (event !== null) tell(event);
    });
  }

  update(view: OperationView, event: EventDraft | null): void {
    const active = view.state === "queued" || view.state === "running" ? 1 : 0;
    this.#database.write(UPDATE, (run, tell) => {
      run("UPDATE operations SET active = ?, record = ? WHERE id = ?", active, JSON.stringify(view), view.id);
      // a saga that could not be taken back stays for the next daemon
      if (active === 0) {
        run("DELETE FROM sagas WHERE operation = ? AND json_extract(record, '$.failure') IS NULL", view.id);
      }
      if (event !== null) tell(event);
    });
  }

  get(id: string): OperationView | null {
    const row = this.#database.get("SELECT record FROM operations WHERE id = ?", id);
    return row === undefined ? null : parseRow(row);
  }

  findByIdempotencyKey(key: string, { nowMs }: { nowMs: number }): { view: OperationView; fingerprint: string } | null {
    const row = this.#database.get("SELECT record, fingerprint FROM operations WHERE idempotency_key = ?", key);
    if (row === undefined) return null;
    const view = parseRow(row);
    const isOld = view.finishedAt !== null && Date.parse(view.startedAt) < nowMs - STORE_LIMITS.keyWindowMs;
    if (!isOld) return { view, fingerprint: String(row["fingerprint"]) };
    this.#database.write(FORGET_KEY, (run) =>
      run("UPDATE operations SET idempotency_key = NULL, fingerprint = NULL WHERE id = ?", view.id),
    );
    return null;
  }

  list(options: { activeOnly: boolean }): OperationView[] {
    const where = options.activeOnly ? "WHERE active = 1" : "";
    return this.#database.all(`SELECT record FROM operations ${where} ORDER BY rowid DESC`).map(parseRow);
  }

  /** Forgets the oldest ended ones past the limit. */
  trim(): void {
    this.#database.write(TRIM, (run) =>
      run(
        "DELETE FROM operations WHERE active = 0 AND rowid <= (SELECT rowid FROM operations ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
        KEPT_OPERATIONS,
      ),
    );
  }
}
