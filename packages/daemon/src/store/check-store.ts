import { type Database, declareWrite } from "./database.ts";

const [PUT, KEEP] = [declareWrite("check.put"), declareWrite("check.keep")];

interface Artifact {
  readonly kind: string;
  readonly id: string;
}

/** When artifacts were last read in full and found whole: what the next daemon goes on with. */
export class SqliteCheckStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  checkedAtMs({ kind, id }: Artifact): number | null {
    const row = this.#database.get("SELECT checked_at FROM checks WHERE kind = ? AND id = ?", kind, id);
    return row === undefined ? null : Number(row["checked_at"]);
  }

  putChecked({ kind, id }: Artifact, atMs: number): void {
    this.#database.write(PUT, (run) => run("INSERT OR REPLACE INTO checks (kind, id, checked_at) VALUES (?, ?, ?)", kind, id, atMs));
  }

  keepChecked(artifacts: readonly Artifact[]): void {
    const kept = new Set(artifacts.map(({ kind, id }) => `${kind} ${id}`));
    const rows = this.#database.all("SELECT kind, id FROM checks").map((row) => ({ kind: String(row["kind"]), id: String(row["id"]) }));
    const gone = rows.filter(({ kind, id }) => !kept.has(`${kind} ${id}`));
    if (gone.length === 0) return;
    this.#database.write(KEEP, (run) => {
      for (const { kind, id } of gone) run("DELETE FROM checks WHERE kind = ? AND id = ?", kind, id);
    });
  }
}
