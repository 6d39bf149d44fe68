import type { OperationView } from "@kiln/protocol";
import { type Database, declareWrite } from "./database.ts";

const [PUT, REMOVE] = [declareWrite("saga.put"), declareWrite("saga.remove")];

interface SagaRow {
  readonly operation: string;
}

/**
 * Implements operations/saga/saga.ts's SagaLog, which ranks above it. With each record goes what the operation says of
 * itself by then, so that its phases need no transactions of their own.
 */
export class SqliteSagaLog<Record extends SagaRow> {
  readonly #database: Database;
  readonly #viewOf: (operation: string) => OperationView | null;

  /** `viewOf`: an operation that runs in this daemon. */
  constructor(database: Database, options: { viewOf: (operation: string) => OperationView | null }) {
    this.#database = database;
    this.#viewOf = options.viewOf;
  }

  put(record: Record): void {
    const view = this.#viewOf(record.operation);
    this.#database.write(PUT, (run) => {
      run("INSERT OR REPLACE INTO sagas (operation, record) VALUES (?, ?)", record.operation, JSON.stringify(record));
      if (view !== null) run("UPDATE operations SET record = ? WHERE id = ?", JSON.stringify(view), view.id);
    });
  }

  remove(operation: string): void {
    this.#database.write(REMOVE, (run) => run("DELETE FROM sagas WHERE operation = ?", operation));
  }

  list(): readonly Record[] {
    return this.#database.all("SELECT record FROM sagas ORDER BY rowid").map((row) => JSON.parse(String(row["record"])) as Record);
  }
}
