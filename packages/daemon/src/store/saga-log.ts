import { type Database, declareWrite } from "./database.ts";

const [PUT, REMOVE] = [declareWrite("saga.put"), declareWrite("saga.remove")];

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
    const values = [record.operation, JSON.stringify(record)];
    this.#database.write(PUT, (run) => run("INSERT OR REPLACE INTO sagas (operation, record) VALUES (?, ?)", ...values));
  }

  remove(operation: string): void {
    this.#database.write(REMOVE, (run) => run("DELETE FROM sagas WHERE operation = ?", operation));
  }

  list(): readonly Record[] {
    return this.#database.all("SELECT record FROM sagas ORDER BY rowid").map((row) => JSON.parse(String(row["record"])) as Record);
  }
}
