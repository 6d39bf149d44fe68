import type { Database } from "./database.ts";

interface SagaRow {
  readonly operation: string;
}

/** Implements operations/saga/saga.ts's SagaLog, which ranks above it. */
export class SqliteSagaLog<Record extends SagaRow> {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  put(record: Record): void {
    this.#database.run("INSERT OR REPLACE INTO sagas (operation, record) VALUES (?, ?)", record.operation, JSON.stringify(record));
  }

  remove(operation: string): void {
    this.#database.run("DELETE FROM sagas WHERE operation = ?", operation);
  }

  list(): readonly Record[] {
    return this.#database.all("SELECT record FROM sagas ORDER BY rowid").map((row) => JSON.parse(String(row["record"])) as Record);
  }
}
