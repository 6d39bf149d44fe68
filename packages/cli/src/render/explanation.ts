import { familiarName } from "@kiln/formats/oci/reference";
import type { Explanation } from "@kiln/protocol";
import { escapeControl } from "./escape.ts";
import { renderEvent } from "./event.ts";
import { ellipsis, renderTable } from "./table.ts";
import { formatBytes, formatMs, shortDigest } from "./units.ts";

/** Events that a person reads; `--json` has more. */
const SHOWN_EVENTS = 15;

const QUEUES = { capacity: "memory and CPUs", boot: "a core to boot on" } as const;

/** For people: what is so, then why, each part only where there is something to say. */
export const renderExplanation = (explanation: Explanation): string => {
  const { kind, id, name, state, summary, error } = explanation;
  const title = [kind === "image" ? familiarName(name) : name, id === null || id === name ? null : `(${shortDigest(id)})`, state];
  const hint = error === null || error.hint === "" ? [] : [`hint: ${error.hint}`];
  const causes = error?.causes.map((cause) => `  because: ${cause}`) ?? [];
  const head = [title.filter((part) => part !== null).join(" "), ...summary, ...causes, ...hint].map(escapeControl);
  const parts = [
    waited(explanation),
    joined(explanation),
    held(explanation),
    room(explanation),
    operations(explanation),
    events(explanation),
  ];
  return `${[head.join("\n"), ...parts.filter((part) => part !== null)].join("\n\n")}\n`;
};

const part = (title: string, lines: readonly string[]): string | null =>
  lines.length === 0 ? null : [`${title}:`, ...lines.map((line) => `  ${escapeControl(line)}`)].join("\n");

const waited = ({ waits }: Explanation): string | null =>
  part(
    "Stood in line",
    waits.map(({ for: queue, position, ms, operation, state }) => {
      const front = position === 1 ? "as the first" : `with ${position - 1} in front`;
      const time = ms === null ? "" : `, ${state === "waiting" ? "so far " : ""}${formatMs(ms)}`;
      return `for ${QUEUES[queue]}, ${front}${time}: ${operation.kind} (${operation.id})`;
    }),
  );

const joined = (explanation: Explanation): string | null =>
  part(
    "Joined the work of others",
    explanation.joined.map(({ work, by, ms, state }) => {
      const whose = by === null ? "" : `, begun for ${by.kind} of ${by.subject}`;
      return `${work.kind} of ${work.subject} (${work.id})${whose}: ${state === "waiting" ? "so far " : ""}${formatMs(ms)}`;
    }),
  );

const held = ({ heldBy }: Explanation): string | null =>
  part(
    "Held by",
    heldBy.map(({ kind, id, name, what }) => {
      const who =
        kind === "lease" ? name : `${kind} ${kind === "image" ? familiarName(name) : name}${id === null || id === name ? "" : ` (${id})`}`;
      return `${who}: ${shortDigest(what)}`;
    }),
  );

const room = ({ capacity }: Explanation): string | null => {
  if (capacity === null) return null;
  const bytes = [["memory", capacity.memoryBytes] as const, ["disk", capacity.diskBytes] as const].map(
    ([name, { total, reserved, wanted }]) => {
      const wants = wanted === null ? "" : `wants ${formatBytes(wanted)}, `;
      return `${name}: ${wants}${formatBytes(reserved)} reserved of ${formatBytes(total)}`;
    },
  );
  const { total, reserved, wanted } = capacity.cpus;
  const cpus = `CPUs: ${wanted === null ? "" : `wants ${wanted}, `}${reserved} reserved of ${total}`;
  const waiting = capacity.waiting === 0 ? [] : [`${capacity.waiting} wait for memory or CPUs`];
  return part("Room", [...bytes, cpus, ...waiting]);
};

const operations = (explanation: Explanation): string | null => {
  if (explanation.operations.length === 0) return null;
  const rows = explanation.operations.map(({ id, kind, subject, state, phase, phases, joined: work, parent }) => {
    const spent = phases.map(({ name, ms }) => `${name} ${formatMs(ms)}`);
    const steps = [...spent, ...(phase === null ? [] : [`${phase} …`])].join(", ");
    return [id, `${parent === null ? "" : "- "}${kind}`, ellipsis(subject, 30), state, work === null ? steps : `joined ${work}`];
  });
  return `Operations:\n${renderTable(["ID", "KIND", "SUBJECT", "STATE", "PHASES"], rows).trimEnd()}`;
};

const events = (explanation: Explanation): string | null => {
  const shown = explanation.events.slice(-SHOWN_EVENTS).map(renderEvent);
  const more = explanation.events.length - shown.length;
  return part(more === 0 ? "Events" : `Events (the last ${SHOWN_EVENTS})`, shown);
};
