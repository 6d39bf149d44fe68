import type { EventDraft, KilnEvent } from "@kiln/protocol";

/** The journal of events: see store/event-journal.ts for who writes. Synchronous; bounded: the oldest are forgotten. */
export interface EventLog {
  /** For what is no change of a record. */
  append(draft: EventDraft): void;
  /** `listener` hears that there is something new, once for all of a turn. */
  listen(listener: () => void): Disposable;
  /** The cursors of what is kept; in an empty journal the oldest is behind the newest. */
  bounds(): { readonly oldest: number; readonly newest: number };
  /** The first after a cursor, oldest first. */
  read(options: { after: number; limit: number }): readonly KilnEvent[];
  /** The cursor behind which everything is of `time` (RFC 3339) or later; 0 where nothing older is kept. */
  cursorBefore(time: string): number;
  /** The newest of these names and ids, oldest first. */
  about(names: readonly string[], options: { limit: number }): readonly KilnEvent[];
}
