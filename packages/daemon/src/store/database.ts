import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { KilnError } from "@kiln/protocol";

/** Forward-only. A migration that has run anywhere is never edited; a new one is appended. */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE vms (
     id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, slot INTEGER NOT NULL UNIQUE, state TEXT NOT NULL,
     memory_bytes INTEGER NOT NULL, rootfs_key TEXT NOT NULL, kernel_key TEXT NOT NULL, record TEXT NOT NULL
   ) STRICT;
   CREATE INDEX vms_rootfs ON vms (rootfs_key);
   CREATE TABLE images (reference TEXT PRIMARY KEY, rootfs_key TEXT NOT NULL, record TEXT NOT NULL) STRICT;
   CREATE INDEX images_rootfs ON images (rootfs_key);
   CREATE TABLE rootfs (key TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
   CREATE TABLE kernels (key TEXT PRIMARY KEY, created_at TEXT NOT NULL, record TEXT NOT NULL) STRICT;
   CREATE TABLE operations (
     id TEXT PRIMARY KEY, started_at TEXT NOT NULL, active INTEGER NOT NULL, record TEXT NOT NULL,
     idempotency_key TEXT UNIQUE, fingerprint TEXT
   ) STRICT;
   CREATE INDEX operations_started ON operations (started_at);`,
  `CREATE TABLE sagas (operation TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
   CREATE INDEX vms_kernel ON vms (kernel_key);
   CREATE INDEX vms_state ON vms (state);
   ALTER TABLE vms ADD COLUMN cpus INTEGER NOT NULL DEFAULT 1;
   ALTER TABLE vms ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;
   UPDATE vms SET cpus = json_extract(record, '$.cpus'), disk_bytes = json_extract(record, '$.diskBytes');`,
];

/** One connection to kiln.db, with statements prepared once. The daemon is the only writer. */
export class Database implements Disposable {
  readonly #connection: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(path: string) {
    this.#connection = new DatabaseSync(path);
    this.#connection.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 2000");
    this.#migrate(path);
  }

  #migrate(path: string): void {
    const version = Number(this.get("PRAGMA user_version")?.["user_version"] ?? 0);
    if (version > MIGRATIONS.length) {
      throw new KilnError(
        "HOME_VERSION",
        `${path} was written by a newer Kiln: its version is ${version}, this one knows ${MIGRATIONS.length}`,
      );
    }
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < version) continue;
      this.transaction(() => {
        this.#connection.exec(sql);
        this.#connection.exec(`PRAGMA user_version = ${index + 1}`);
      });
    }
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#connection.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  get(sql: string, ...values: SQLInputValue[]): Record<string, unknown> | undefined {
    return this.#prepare(sql).get(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): Record<string, unknown>[] {
    return this.#prepare(sql).all(...values);
  }

  /** The number of rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  /** Synchronous by type: nothing can be awaited while the write lock is held. */
  transaction<Result>(work: () => Result extends Promise<unknown> ? never : Result): Result {
    this.#connection.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#connection.exec("COMMIT");
      return result;
    } catch (error) {
      // a full disk may have rolled it back already
      if (this.#connection.isTransaction) this.#connection.exec("ROLLBACK");
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}
