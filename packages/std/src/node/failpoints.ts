import { writeSync } from "node:fs";

declare const declared: unique symbol;

/** A named place where a test can make the process die, fail or hang. Only declareFailpoint makes one. */
export type Failpoint = string & { readonly [declared]: true };

export type FailpointAction = "kill" | "error" | "pause";

export interface ArmedFailpoint {
  readonly name: string;
  /** At which hit it acts, counted from 1; it acts once. */
  readonly nth: number;
  readonly action: FailpointAction;
}

/** What a failpoint throws that was armed with `error`. */
export class FailpointError extends Error {
  override readonly name = "FailpointError";
  readonly code = "FAILPOINT";
}

const names = new Set<string>();
const armed = parseFailpoint(process.env);
let hits = 0;

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

/** The failpoint that this process was told to act at, or null. The composition root refuses a name that is not listed. */
export function armedFailpoint(): ArmedFailpoint | null {
  return armed;
}

/**
 * Marks the place: `await failpoint(POINT)`. Does nothing unless the process runs with KILN_TEST=1 and
 * `KILN_FAILPOINT=name[:nth]=kill|error|pause` names it. `kill` ends the process with SIGKILL and `error` throws
 * FailpointError, both before this returns; `pause` returns a promise that never settles and keeps the process alive.
 * Each writes `failpoint NAME ACTION` to stderr first.
 */
export function failpoint(point: Failpoint): Promise<void> | undefined {
  if (armed === null || armed.name !== point) return undefined;
  hits += 1;
  return hits === armed.nth ? act(armed) : undefined;
}

function act({ name, action }: ArmedFailpoint): Promise<void> {
  writeSync(2, `failpoint ${name} ${action}\n`);
  switch (action) {
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return forever();
    case "error":
      throw new FailpointError(`failpoint ${name}`);
    case "pause":
      return forever();
  }
}

function forever(): Promise<void> {
  setInterval(() => undefined, 2 ** 30);
  return new Promise(() => undefined);
}

/** Reads KILN_FAILPOINT; null unless KILN_TEST=1. Throws TypeError if it is malformed, so that a typo never passes for a test. */
export function parseFailpoint(env: Readonly<Record<string, string | undefined>>): ArmedFailpoint | null {
  const text = env["KILN_FAILPOINT"];
  if (env["KILN_TEST"] !== "1" || text === undefined || text === "") return null;
  const match = /^([^:=]+)(?::([1-9][0-9]{0,8}))?=(kill|error|pause)$/.exec(text);
  const [, name, nth, action] = match ?? [];
  if (name === undefined || !isAction(action)) {
    throw new TypeError(`KILN_FAILPOINT is name[:nth]=kill|error|pause, not "${text}"`);
  }
  return { name, nth: Number(nth ?? "1"), action };
}

function isAction(text: string | undefined): text is FailpointAction {
  return text === "kill" || text === "error" || text === "pause";
}
