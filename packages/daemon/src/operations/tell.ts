import type { EventDraft } from "@kiln/protocol";
import type { Core } from "./core.ts";

/** Writes down what is no change of a record. Never throws: what could not be told is in the log, and what happened has happened. */
export const tell = ({ events, journal }: Pick<Core, "events" | "journal">, draft: EventDraft): void => {
  try {
    events.append(draft);
  } catch (error) {
    journal.error({ ...draft, error: String(error) }, "an event could not be written down");
  }
};
