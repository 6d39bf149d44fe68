import { KilnError } from "@kiln/protocol/errors";
import { parseMoment } from "../arguments/moments.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import { renderEvent } from "../render/event.ts";

interface EventsOptions {
  readonly since?: string;
  readonly until?: string;
  readonly filter?: readonly string[];
}

const FILTERS = ["type", "subject"] as const;

/** docker's filters: values of one key are alternatives, keys narrow each other. Throws USAGE. */
export const parseEventFilters = (filters: readonly string[]): Readonly<Record<(typeof FILTERS)[number], readonly string[]>> => {
  const pairs = filters.map((filter) => {
    const [, key = "", value = ""] = /^([a-z]+)=(.+)$/s.exec(filter) ?? [];
    return { filter, key, value };
  });
  const unknown = pairs.find(({ key }) => !FILTERS.some((one) => one === key));
  if (unknown !== undefined) throw new KilnError("USAGE", `--filter ${unknown.filter}: there are type=TYPE and subject=NAME`);
  const valuesOf = (wanted: string) => pairs.filter(({ key }) => key === wanted).map(({ value }) => value);
  return { type: valuesOf("type"), subject: valuesOf("subject") };
};

/** A cursor is a bare number: the events behind that one. */
const parseSince = (text: string): number | Date => (/^\d+$/.test(text) ? Number(text) : parseMoment(text, "--since", Date.now()));

const parseUntil = (text: string | undefined): "now" | Date | undefined =>
  text === undefined || text === "now" ? text : parseMoment(text, "--until", Date.now());

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--since <when>", "begin there: a time, how long ago it was (10m), or an event's number (those behind it)")
      .option("--until <when>", "end there: now, a time, or how long ago it was (default: never)")
      .option("-f, --filter <key=value>", "only those of this type (vm, vm.failed) or subject; may be repeated", collect)
      .addHelpText(
        "after",
        examples(
          "kiln events",
          "kiln events --since 1h --until now",
          "kiln events --json --since 0 --filter type=vm",
          "kiln events --filter subject=web --filter type=vm.failed",
        ),
      ),
  run: async (context, command) => {
    const { since, until, filter = [] } = command.opts<EventsOptions>();
    const { type: types, subject: subjects } = parseEventFilters(filter);
    const query = {
      ...{ types, subjects, signal: context.signal },
      since: since === undefined ? undefined : parseSince(since),
      until: parseUntil(until),
    };
    const kiln = await context.connect();
    for await (const event of kiln.events(query)) {
      if (context.json) await context.printJson(event);
      else await context.print(`${renderEvent(event)}\n`);
    }
  },
};
export default spec;
