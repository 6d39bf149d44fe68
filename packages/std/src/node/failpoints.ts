import { writeSync } from "node:fs";

declare const declared: unique symbol;

/** A named place where a test can make the process die, fail or hang. Only declareFailpoint makes one. */
export type Failpoint = string & { readonly [declared]: true };

export type FailpointAction = "kill" | "error" | "pause" | "gather";

export interface ArmedFailpoint {
  readonly name: string;
  /** At which hit it acts, counted from 1; it acts once. A `gather` holds every hit up to this one. */
  readonly nth: number;
  readonly action: FailpointAction;
}

export interface FailpointSetting {
  readonly armed: readonly ArmedFailpoint[];
  /** Every hit of every failpoint is written to stderr. */
  readonly trace: boolean;
}

/** What a failpoint throws that was armed with `error`. */
export class FailpointError extends Error {
  override readonly name = "FailpointError";
  readonly code = "FAILPOINT";
}

const names = new Set<string>();
const setting = parseFailpoints(process.env);
const hits = new Map<string, number>();

/** Names a failpoint, once per process, so that it can be listed. Throws if the name is malformed or taken. */
export function declareFailpoint(name: string): Failpoint {
  if (!/^[a-z][a-zA-Z0-9.-]*$/.test(name)) throw new TypeError(`failpoint "${name}" is not a name like vm.start.spawned`);
  if (names.has(name)) throw new TypeError(`failpoint "${name}" is declared twice`);
  names.add(name);
  return name as Failpoint;
}

/** The names of all failpoints of the modules loaded so far, sorted. */
export function listFailpoints(): readonly string[] {
  return [...names].sort();
}

/** The failpoints that this process was told to act at. The composition root refuses a name that is not listed. */
export function armedFailpoints(): readonly ArmedFailpoint[] {
  return setting?.armed ?? [];
}

/**
 * Marks the place: `await failpoint(POINT)`. Does nothing unless the process runs with KILN_TEST=1 and KILN_FAILPOINT
 * names it: a list with commas of `name[:nth]=kill|error|pause|gather`, and `trace`. `kill` ends the process with SIGKILL and
 * `error` throws FailpointError, both before this returns; `pause` returns a promise that never settles and keeps the
 * process alive; `gather` holds who comes until the nth has come, then lets all of them go. Each writes `failpoint NAME ACTION` to stderr first; `trace` writes `failpoint NAME` at every hit of
 * every failpoint.
 */
export function failpoint(point: Failpoint): Promise<void> | undefined {
  const hit = meet(point);
  return hit === null ? undefined : act(hit);
}

/** The same in the middle of a turn, where nothing is awaited: kill and error act before this returns, and a pause is an error. */
export function failpointNow(point: Failpoint): void {
  const hit = meet(point);
  if (hit === null) return;
  if (hit.action === "pause" || hit.action === "gather")
    throw new FailpointError(`failpoint ${point} is in the middle of a turn and cannot pause`);
  void act(hit); // a promise that nobody waits for: the process is dead, or this line was not reached
}

/** What was armed for this hit; null for nearly every one. */
function meet(point: Failpoint): ArmedFailpoint | null {
  if (setting === null) return null;
  const nth = (hits.get(point) ?? 0) + 1;
  hits.set(point, nth);
  if (setting.trace) writeSync(2, `failpoint ${point}\n`);
  return setting.armed.find((one) => one.name === point && (one.nth === nth || (one.action === "gather" && nth < one.nth))) ?? null;
}

function act(armed: ArmedFailpoint): Promise<void> {
  const { name, action } = armed;
  writeSync(2, `failpoint ${name} ${action}\n`);
  switch (action) {
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return forever();
    case "error":
      throw new FailpointError(`failpoint ${name}`);
    case "pause":
      return forever();
    case "gather":
      return gather(armed);
  }
}

const gathered = new Map<string, PromiseWithResolvers<void>>();

function gather({ name, nth }: ArmedFailpoint): Promise<void> {
  const gate = gathered.get(name) ?? Promise.withResolvers<void>();
  gathered.set(name, gate);
  if (hits.get(name) === nth) gate.resolve();
  return gate.promise;
}

function forever(): Promise<void> {
  setInterval(() => undefined, 2 ** 30);
  return new Promise(() => undefined);
}

/** Reads KILN_FAILPOINT; null unless KILN_TEST=1. Throws TypeError if it is malformed, so that a typo never passes for a test. */
export function parseFailpoints(env: Readonly<Record<string, string | undefined>>): FailpointSetting | null {
  const text = env["KILN_FAILPOINT"];
  if (env["KILN_TEST"] !== "1" || text === undefined || text === "") return null;
  const items = text.split(",");
  return { armed: items.filter((item) => item !== "trace").map(parseItem), trace: items.includes("trace") };
}

function parseItem(item: string): ArmedFailpoint {
  const match = /^([^:=]+)(?::([1-9][0-9]{0,8}))?=(kill|error|pause|gather)$/.exec(item);
  const [, name, nth, action] = match ?? [];
  if (name === undefined || !isAction(action)) {
    throw new TypeError(`KILN_FAILPOINT is a list of name[:nth]=kill|error|pause|gather and trace, and "${item}" is neither`);
  }
  return { name, nth: Number(nth ?? "1"), action };
}

function isAction(text: string | undefined): text is FailpointAction {
  return text === "kill" || text === "error" || text === "pause" || text === "gather";
}
