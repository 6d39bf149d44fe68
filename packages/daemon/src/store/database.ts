import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { type EventDraft, KilnError } from "@kiln/protocol";
import { type Clock, systemClock } from "@kiln/std";
import { declareFailpoint, type Failpoint, failpointNow } from "@kiln/std/node";
import { EventJournal } from "./event-journal.ts";
import { takeSpareRoom } from "./spare-room.ts";

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
  `CREATE TABLE events (
     seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, type TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL
   ) STRICT;
   CREATE TABLE requests (
     key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, begun_at INTEGER NOT NULL, answer TEXT
   ) STRICT;
   CREATE INDEX requests_begun ON requests (begun_at);`,
  `CREATE TABLE preboots (key TEXT PRIMARY KEY, created_at TEXT NOT NULL, record TEXT NOT NULL) STRICT;`,
  `CREATE TABLE checks (kind TEXT NOT NULL, id TEXT NOT NULL, checked_at INTEGER NOT NULL, PRIMARY KEY (kind, id)) STRICT;`,
  `CREATE TABLE customizations (key TEXT PRIMARY KEY, manifest TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;`,
];

/** One kind of write, with a place before it and one after it at which a test can end the daemon. */
export interface RecordWrite {
  readonly before: Failpoint;
  readonly after: Failpoint;
}

/** Names a kind of write, once per process: "vm.reserve". */
export const declareWrite = (name: string): RecordWrite => ({
  before: declareFailpoint(`record.${name}.before`),
  after: declareFailpoint(`record.${name}.after`),
});

/** Runs a statement that changes something; returns the number of rows changed. */
export type Run = (sql: string, ...values: SQLInputValue[]) => number;

/** Writes down in the journal what the change is, in the same transaction. */
export type Tell = (event: EventDraft) => void;

/** One connection to kiln.db, with statements prepared once. The daemon is the only writer. */
export class Database implements Disposable {
  readonly #connection: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>();
  readonly events: EventJournal;

  /** `connection`: one that is open already, which belongs to the database from then on. */
  constructor(path: string, { clock = systemClock, connection }: { clock?: Pick<Clock, "now">; connection?: DatabaseSync } = {}) {
    this.#connection = connection ?? new DatabaseSync(path);
    this.#path = path;
    this.events = new EventJournal(clock);
    try {
      this.#connection.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 2000");
      // environments hold secrets: what is deleted is overwritten with zeros, and the log of writes goes when the daemon ends
      this.#connection.exec("PRAGMA secure_delete = ON");
      this.#migrate(path);
    } catch (error) {
      this.#connection.close();
      throw isFullDisk(error, path) ? new KilnError("DISK_FULL", "no space left on the device", { cause: error }) : error;
    }
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
      this.#transact(() => {
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

  /**
   * The only way to change a record: one transaction. Synchronous by type, since nothing can be awaited while the write
   * lock is held; so are its failpoints, which kill or throw and cannot pause.
   */
  write<Result>(write: RecordWrite, work: (run: Run, tell: Tell) => Result extends Promise<unknown> ? never : Result): Result {
    failpointNow(write.before);
    const run: Run = (sql, ...values) => Number(this.#prepare(sql).run(...values).changes);
    const result = this.#transact(() => work(run, (event) => this.events.append(run, event)));
    failpointNow(write.after);
    return result;
  }

  #transact<Result>(work: () => Result): Result {
    this.#prepare("BEGIN IMMEDIATE").run();
    try {
      const result = work();
      this.#prepare("COMMIT").run();
      return result;
    } catch (error) {
      // a full disk may have rolled it back already
      if (this.#connection.isTransaction) this.#connection.exec("ROLLBACK");
      throw error;
    }
  }

  /** For what has to be written down while the disk is full. It takes tens of milliseconds; where there is no room, none is taken. */
  takeSpareRoom(): void {
    takeSpareRoom(this.#connection, this.#path);
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

/** SQLITE_IOERR in the low byte of the extended code (sqlite.org/rescode.html). */
const SQLITE_IOERR = 10;
/** What the index of the write-ahead log begins with. */
const INDEX_BYTES = 32 * 1024;

/** Where there is no room for the index of its log, SQLite calls it an error of input and output. */
const isFullDisk = (error: unknown, path: string): boolean => {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number") return false;
  const { bavail, bsize } = statfsSync(dirname(path));
  return (error.errcode & 0xff) === SQLITE_IOERR && bavail * bsize < INDEX_BYTES;
};
