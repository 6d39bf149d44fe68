import { type EventFilter, type KilnEvent, matchesFilter, TRUNCATED } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import { type Core, nowIso } from "./core.ts";
import { OPERATION_LIMITS } from "./limits.ts";

export interface EventQuery extends EventFilter {
  /** A cursor, or a time (RFC 3339); null: from now on. */
  readonly since: number | string | null;
  /** Where it ends: with what there is now, or at a time (milliseconds since 1970); null: never. */
  readonly until: "now" | number | null;
}

/** An event, or only the cursor: a client that comes back with it misses nothing. */
export type EventMessage = { readonly event: KilnEvent } | { readonly cursor: number };

type Source = Pick<Core, "events" | "clock">;

/**
 * The journal from a cursor on, and then what is new, each event once. There is no other way from an event to a client
 * than the journal: replay and live are the same loop, so there is no seam between them, and a slow client waits in the
 * journal and not in memory. What it asks for and the journal has forgotten is told by an event `truncated`.
 */
export async function* followEvents(
  core: Source,
  query: EventQuery,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<EventMessage> {
  const { events } = core;
  const bell = new Bell();
  using _listening = events.listen(() => bell.ring());
  const { newest } = events.bounds();
  let cursor = startOf(core, query, newest);
  if (cursor > newest) {
    yield { event: truncated(core, { since: cursor, cursor: newest }) };
    cursor = newest;
  }
  yield { cursor };
  for (;;) {
    bell.mute();
    const { oldest } = events.bounds();
    if (cursor < oldest - 1) {
      yield { event: truncated(core, { since: cursor, cursor: oldest - 1 }) };
      cursor = oldest - 1;
    }
    const batch = events.read({ after: cursor, limit: OPERATION_LIMITS.eventBatch });
    for (const event of batch) {
      if (isPast(query, event, newest)) return;
      cursor = event.seq;
      if (matchesFilter(query, event)) yield { event };
      signal.throwIfAborted();
    }
    if (batch.length > 0) continue;
    if (isOver(core, query, cursor >= newest)) return;
    if (!(await bell.waits(core, query, signal))) yield { cursor };
  }
}

const startOf = ({ events }: Source, { since }: EventQuery, newest: number): number => {
  if (since === null) return newest;
  return typeof since === "number" ? since : events.cursorBefore(since);
};

const isPast = ({ until }: EventQuery, event: KilnEvent, newest: number): boolean =>
  until === "now" ? event.seq > newest : until !== null && Date.parse(event.time) > until;

/** Nothing is left to read. */
const isOver = ({ clock }: Source, { until }: EventQuery, hasAll: boolean): boolean =>
  until === "now" ? hasAll : until !== null && clock.now() > until;

/** A cursor from before the oldest event, or, where the home is an older one than the client knows, from behind the newest. */
const truncated = (core: Source, { since, cursor }: { since: number; cursor: number }): KilnEvent => ({
  ...{ seq: cursor, time: nowIso(core), type: TRUNCATED, subject: "events" },
  data: { id: null, since, missing: Math.max(0, cursor - since) },
});

/** Rings when the journal has something new; nothing rung between `mute` and `waits` is missed. */
class Bell {
  #rung = new Deferred<void>();

  ring(): void {
    this.#rung.resolve();
  }

  mute(): void {
    this.#rung = new Deferred();
  }

  /** Whether it rang before it was time for a sign of life, or for the end. */
  async waits({ clock }: Source, { until }: EventQuery, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    const untilEnd = typeof until === "number" ? until - clock.now() + 1 : Infinity;
    const enough = new AbortController();
    const stop = (): void => enough.abort();
    signal.addEventListener("abort", stop, { once: true });
    const quiet = clock.sleep(Math.min(OPERATION_LIMITS.eventKeepAliveMs, untilEnd), { signal: enough.signal }).then(
      () => false,
      () => false,
    );
    const rang = await Promise.race([this.#rung.promise.then(() => true), quiet]);
    enough.abort();
    signal.removeEventListener("abort", stop);
    signal.throwIfAborted();
    return rang;
  }
}
