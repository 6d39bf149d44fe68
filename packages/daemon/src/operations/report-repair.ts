import type { Core } from "./core.ts";
import { tell } from "./tell.ts";

export interface Repair {
  /** A VM's name, a path in the home, an artifact's key. */
  readonly subject: string;
  readonly id: string | null;
  /** What was not as the records said. */
  readonly found: string;
  /** How they agree again. */
  readonly did: string;
}

/** Tells of a difference between the records and the system, now repaired. */
export const reportRepair = (core: Pick<Core, "events" | "journal">, { subject, id, found, did }: Repair): void =>
  tell(core, { type: "drift.repaired", subject, data: { id, found, did } });
