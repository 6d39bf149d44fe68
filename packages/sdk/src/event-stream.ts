import { KilnError } from "@kiln/protocol/errors";
import type { KilnEvent } from "@kiln/protocol";
import { isUnreachable, NEVER, type ApiClient, type CallOptions } from "./api-client.ts";
import { SDK_LIMITS } from "./limits.ts";
import { Patience } from "./patience.ts";
import { serverSentEvents } from "./server-sent-events.ts";

export interface EventOptions extends CallOptions {
  /** A cursor (an event's `seq`: those behind it), or a time; unless told, from now on. */
  readonly since?: number | Date | undefined;
  /** Ends with what there is now, or with what happens until then; unless told, never. */
  readonly until?: "now" | Date | undefined;
  /** `vm.failed`, or `vm` for all of VMs; several are alternatives. */
  readonly types?: readonly string[] | undefined;
  /** Names or ids of what it happens to; several are alternatives. */
  readonly subjects?: readonly string[] | undefined;
}

const toText = (moment: number | string | Date): string => (moment instanceof Date ? moment.toISOString() : String(moment));

/**
 * What happened and happens, each event once, over broken connections and daemons that end and begin. A cursor whose
 * events are forgotten gives an event `truncated` in their place. Throws DAEMON_UNREACHABLE where no daemon comes back.
 */
export async function* readEvents(api: ApiClient, options: EventOptions): AsyncGenerator<KilnEvent> {
  const signal = options.signal ?? NEVER;
  const patience = new Patience(api.clock);
  const fixed = [
    ...(options.until === undefined ? [] : [["until", toText(options.until)]]),
    ...(options.types ?? []).map((type) => ["type", type]),
    ...(options.subjects ?? []).map((subject) => ["subject", subject]),
  ];
  let since = options.since === undefined ? null : toText(options.since);
  for (;;) {
    try {
      const query = new URLSearchParams([...fixed, ...(since === null ? [] : [["since", since]])]);
      for await (const { name, id, data } of serverSentEvents(await api.stream(`/v1/events?${query.toString()}`, { signal }))) {
        patience.answered();
        if (name === "end") return;
        since = id;
        if (data !== "") yield parseEvent(data);
      }
    } catch (error) {
      if (!isUnreachable(error) || patience.isOver(SDK_LIMITS.sessionPatienceMs)) throw error;
    }
    await api.clock.sleep(SDK_LIMITS.sessionRetryMaxMs / 4, { signal });
  }
}

const parseEvent = (data: string): KilnEvent => {
  try {
    return JSON.parse(data) as KilnEvent;
  } catch (cause) {
    throw new KilnError("INTERNAL", "the daemon's event is not JSON", { cause });
  }
};
