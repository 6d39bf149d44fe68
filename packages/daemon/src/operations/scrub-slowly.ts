import { asKilnError } from "@kiln/protocol";
import type { Core } from "./core.ts";
import { type Artifact, checkArtifact, listArtifacts } from "./scrub.ts";

/** Where nothing is due for longer, what may have come meanwhile is looked at. */
const LOOK_AT_LEAST_EVERY_MS = 60 * 60_000;
/** A daemon that starts has other things to do than to read what lies there. */
const FIRST_LOOK_MS = 60_000;
const SHORTEST_WAIT_MS = 100;
/** How much slower it is while an operation runs: somebody waits for that. */
const BUSY_FACTOR = 8;

/**
 * Reads every artifact in full once in an interval, one at a time and slowly, until the daemon begins to end. What was
 * read is in the records, so that the next daemon goes on and does not begin anew.
 */
export const scrubSlowly = async (core: Core): Promise<void> => {
  const { scrub } = core.config;
  if (scrub === null) return;
  try {
    await core.clock.sleep(Math.min(FIRST_LOOK_MS, scrub.everyMs), { signal: core.stopping });
    while (!core.stopping.aborted) {
      const nextMs = await scrubDue(core, scrub);
      await core.clock.sleep(Math.max(SHORTEST_WAIT_MS, nextMs), { signal: core.stopping });
    }
  } catch (error) {
    if (!core.stopping.aborted) core.journal.error({ error: String(error) }, "the scrub has ended");
  }
};

type Pace = NonNullable<Core["config"]["scrub"]>;

/** Reads what is due. Returns after how many milliseconds to look again. */
const scrubDue = async (core: Core, pace: Pace): Promise<number> => {
  const artifacts = await listArtifacts(core);
  core.checked.keepChecked(artifacts);
  const due = artifacts.filter(({ wholeAtMs }) => wholeAtMs + pace.everyMs <= core.clock.now());
  for (const artifact of due) await scrubOne(core, artifact, pace);
  const [oldest] = artifacts.filter((artifact) => !due.includes(artifact));
  const nextMs = oldest === undefined ? pace.everyMs : oldest.wholeAtMs + pace.everyMs - core.clock.now();
  return Math.min(LOOK_AT_LEAST_EVERY_MS, nextMs);
};

/** What cannot be read now is tried again at the next look. */
const scrubOne = async (core: Core, artifact: Artifact, pace: Pace): Promise<void> => {
  const signal = core.stopping;
  signal.throwIfAborted();
  const onRead = async (bytes: number): Promise<void> => {
    const factor = core.operations.count("running") > 0 ? BUSY_FACTOR : 1;
    await core.clock.sleep((bytes / pace.bytesPerSecond) * 1_000 * factor, { signal });
  };
  try {
    await checkArtifact(core, artifact, { signal, onRead });
  } catch (error) {
    signal.throwIfAborted();
    core.journal.warn({ kind: artifact.kind, id: artifact.id, error: asKilnError(error).message }, "an artifact could not be read");
  }
};
