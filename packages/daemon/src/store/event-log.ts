import type { EventDraft, KilnEvent } from "@kiln/protocol";
import { type Database, declareWrite } from "./database.ts";
import { STORE_LIMITS } from "./limits.ts";

const APPEND = declareWrite("event.append");

/** The cursors of what is kept. An empty journal has its oldest behind its newest. */
interface JournalBounds {
  readonly oldest: number;
  readonly newest: number;
}

const parseRow = (row: Record<string, unknown>): KilnEvent => ({
  seq: Number(row["seq"]),
  time: String(row["time"]),
  type: String(row["type"]) as KilnEvent["type"],
  subject: String(row["subject"]),
  data: JSON.parse(String(row["data"])) as KilnEvent["data"],
});

/** What was last asked of the journal, at one version of it. */
interface Asked {
  readonly version: number;
  bounds: JournalBounds | null;
  readonly batches: Map<string, readonly KilnEvent[]>;
}

/**
 * Implements operations/events.port.ts, which ranks above it. All who follow are woken by one event and ask the same: it is read once for
 * all of them.
 */
export class SqliteEventLog {
  readonly #database: Database;
  #asked: Asked = { version: -1, bounds: null, batches: new Map() };

  constructor(database: Database) {
    this.#database = database;
  }

  append(draft: EventDraft): void {
    this.#database.write(APPEND, (_run, tell) => tell(draft));
  }

  listen(listener: () => void): Disposable {
    return this.#database.events.listen(listener);
  }

  get #known(): Asked {
    const { version } = this.#database.events;
    if (this.#asked.version !== version) this.#asked = { version, bounds: null, batches: new Map() };
    return this.#asked;
  }

  bounds(): JournalBounds {
    const known = this.#known;
    known.bounds ??= this.#readBounds();
    return known.bounds;
  }

  #readBounds(): JournalBounds {
    const row = this.#database.get("SELECT (SELECT MIN(seq) FROM events) AS oldest, (SELECT MAX(seq) FROM events) AS newest");
    const newest = Number(row?.["newest"] ?? 0);
    return { oldest: Number(row?.["oldest"] ?? newest + 1), newest };
  }

  read({ after, limit }: { after: number; limit: number }): readonly KilnEvent[] {
    const { batches } = this.#known;
    const key = `${after} ${limit}`;
    const known = batches.get(key);
    if (known !== undefined) return known;
    const batch = this.#database.all("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", after, limit).map(parseRow);
    if (batches.size < STORE_LIMITS.eventBatches) batches.set(key, batch);
    return batch;
  }

  cursorBefore(time: string): number {
    return Number(this.#database.get("SELECT MAX(seq) AS seq FROM events WHERE time < ?", time)?.["seq"] ?? 0);
  }

  about(names: readonly string[], { limit }: { limit: number }): readonly KilnEvent[] {
    const rows = this.#database.all(
      `SELECT * FROM events WHERE subject IN (SELECT value FROM json_each(?1)) OR json_extract(data, '$.id') IN (SELECT value FROM json_each(?1))
       ORDER BY seq DESC LIMIT ?2`,
      ...[JSON.stringify(names), limit],
    );
    return rows.map(parseRow).reverse();
  }
}
