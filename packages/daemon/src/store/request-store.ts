import { type Database, declareWrite } from "./database.ts";
import { STORE_LIMITS } from "./limits.ts";

const [BEGIN, ANSWER, FORGET] = [declareWrite("request.begin"), declareWrite("request.answer"), declareWrite("request.forget")];

interface StoredRequest {
  readonly fingerprint: string;
  /** null: it was begun and has not been answered. */
  readonly answer: string | null;
}

/** Implements http/requests.port.ts, which ranks above it. */
export class SqliteRequestStore {
  readonly #database: Database;
  #untilTrim = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  find(key: string, { nowMs }: { nowMs: number }): StoredRequest | null {
    const oldest = nowMs - STORE_LIMITS.keyWindowMs;
    const row = this.#database.get("SELECT fingerprint, answer FROM requests WHERE key = ? AND begun_at >= ?", key, oldest);
    if (row === undefined) return null;
    const { fingerprint, answer } = row;
    return { fingerprint: String(fingerprint), answer: typeof answer === "string" ? answer : null };
  }

  begin(key: string, { fingerprint, nowMs }: { fingerprint: string; nowMs: number }): void {
    this.#untilTrim -= 1;
    const trims = this.#untilTrim < 0;
    if (trims) this.#untilTrim = STORE_LIMITS.trimEvery;
    this.#database.write(BEGIN, (run) => {
      if (trims) {
        run("DELETE FROM requests WHERE begun_at < ?", nowMs - STORE_LIMITS.keyWindowMs);
        run(
          "DELETE FROM requests WHERE rowid <= (SELECT rowid FROM requests ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
          STORE_LIMITS.keptRequests,
        );
      }
      run("INSERT OR REPLACE INTO requests (key, fingerprint, begun_at, answer) VALUES (?, ?, ?, NULL)", key, fingerprint, nowMs);
    });
  }

  answer(key: string, answer: string): void {
    this.#database.write(ANSWER, (run) => run("UPDATE requests SET answer = ? WHERE key = ?", answer, key));
  }

  forget(key: string): void {
    this.#database.write(FORGET, (run) => run("DELETE FROM requests WHERE key = ?", key));
  }
}
