import type { Life } from "../life.ts";

/** What the store and other ports at once of a daemon throw that has ended: its code goes nowhere from there. */
export class DeadError extends Error {
  override readonly name = "DeadError";
}

/** Whether it comes of code of a daemon that has ended. */
export const isDead = (thrown: unknown): boolean => {
  for (let error = thrown; error instanceof Error; error = error.cause) if (error instanceof DeadError) return true;
  return false;
};

/** How one port of one daemon is simulated. */
export interface Simulation {
  readonly life: Life;
  /** Awaited before each call that is asynchronous; what it throws, the call throws. */
  readonly before: (method: string) => Promise<void>;
  /** The same after each, before its caller learns how it went: what it has done is done by then. */
  readonly after?: (method: string) => Promise<void>;
  /** What the caller gets instead of a result. */
  readonly wrap?: (result: unknown, method: string) => unknown;
  /** Properties that are others here. */
  readonly own?: Readonly<Record<string, unknown>>;
}

type Method = (...args: unknown[]) => unknown;

/** A port all of whose methods are asynchronous, with a step of the scheduler at each call. A daemon that has ended gets no answer any more. */
export const simulated = <Port extends object>(port: Port, how: Simulation): Port => {
  const known = new Map<PropertyKey, Method>();
  const make =
    (method: Method, name: string): Method =>
    (...args) =>
      callLater({ port, method, name, how }, args);
  return new Proxy(port, {
    get: (target, key) => {
      if (how.own !== undefined && typeof key === "string" && key in how.own) return how.own[key];
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      const made = known.get(key) ?? make(value as Method, String(key));
      known.set(key, made);
      return made;
    },
  });
};

export const requireAlive = (life: Life, what: string): void => {
  if (life.isOver) throw new DeadError(`${life.name} has ended and calls ${what}`);
};

const callLater = async (
  call: { readonly port: object; readonly method: Method; readonly name: string; readonly how: Simulation },
  args: unknown[],
): Promise<unknown> => {
  const { port, method, name, how } = call;
  await how.before(name);
  try {
    const result = await method.apply(port, args);
    return how.wrap === undefined ? result : how.wrap(result, name);
  } finally {
    await how.after?.(name);
  }
};
