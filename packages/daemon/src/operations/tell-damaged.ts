import type { CheckedArtifact } from "@kiln/protocol";
import type { Core } from "./core.ts";
import { tell } from "./tell.ts";

/** It was read in full, and is not what it should be. */
export const tellDamaged = (
  core: Pick<Core, "events" | "journal">,
  { kind, id, state }: Pick<CheckedArtifact, "kind" | "id" | "state">,
): void => {
  tell(core, { type: "artifact.damaged", subject: id, data: { id, kind, state } });
  core.journal.warn({ kind, id, state }, "an artifact is damaged");
};
