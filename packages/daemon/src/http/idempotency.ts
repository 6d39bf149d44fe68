import { createHash } from "node:crypto";
import { asKilnError, type ErrorCode, KilnError } from "@kiln/protocol";
import { type Repeat, ROUTES } from "@kiln/protocol/routes";
import type { Context, MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import type { Core } from "../operations/core.ts";
import { HTTP_LIMITS } from "./limits.ts";
import { idempotencyKey } from "./parse.ts";
import type { RequestStore } from "./requests.port.ts";

interface KeptAnswer {
  readonly status: number;
  /** Of a JSON answer; null where there is none. */
  readonly body: string | null;
}

/** What is done with a request that an earlier daemon began and did not answer: it may have had its effect, or not. */
type AfterCrash =
  /** It is done again; a failure with `doneBy` says that the first time was enough. */
  | { readonly do: "again"; readonly doneBy?: ErrorCode; readonly answer?: KeptAnswer }
  /** Its effect must not come a second time, and is there in any case. */
  | { readonly do: "nothing"; readonly answer: KeptAnswer }
  /** Its effect must not come a second time, and nobody knows whether it came. */
  | { readonly do: "refuse" };

const EMPTY: KeptAnswer = { status: 204, body: null };

const AFTER_CRASH: Readonly<Record<string, (body: string) => AfterCrash>> = {
  "post /v1/images/tag": () => ({ do: "again" }),
  "post /v1/images/import": () => ({ do: "again" }),
  "post /v1/prune": () => ({ do: "again" }),
  "post /v1/operations/:id/cancel": () => ({ do: "again" }),
  "delete /v1/images/:reference{.+}": () => ({ do: "again", doneBy: "IMAGE_NOT_FOUND", answer: EMPTY }),
  // what is published stays as it is
  "post /v1/vms/:vm/ports": () => ({ do: "again" }),
  "delete /v1/vms/:vm/ports": () => ({ do: "again", doneBy: "PORT_NOT_FOUND", answer: EMPTY }),
  // the power is cut once; any other signal may count for the command each time
  "post /v1/vms/:vm/kill": (body) =>
    /SIGKILL|"KILL"|"9"/.test(body) || !body.includes("signal")
      ? { do: "again", doneBy: "VM_NOT_RUNNING", answer: EMPTY }
      : { do: "refuse" },
  // the daemon that was meant has ended
  "post /v1/daemon/stop": () => ({ do: "nothing", answer: { status: 202, body: "{}" } }),
};

/** The mutations whose answers are kept, as this file knows them. */
export const KEPT_ROUTES: readonly string[] = Object.keys(AFTER_CRASH);

const REPEATS: ReadonlyMap<string, Repeat | null> = new Map(ROUTES.map(({ method, path, repeat }) => [`${method} ${path}`, repeat]));

interface Running {
  readonly fingerprint: string;
  /** null: it failed, and whoever waits tries for themselves. */
  readonly answer: Promise<KeptAnswer | null>;
}

/**
 * A mutation with an Idempotency-Key happens once: who asks again gets the first answer, or waits for it. Failures are
 * not kept: what failed has changed nothing, and may be tried again under its key. Operations keep their keys
 * themselves, in the transaction in which they begin; here it is seen that a key is not used for both.
 */
export const idempotency = ({ core, requests }: { core: Core; requests: RequestStore }): MiddlewareHandler => {
  const kept = new KeptAnswers(core, requests);
  return async (context, next) => {
    const route = matchedRoutes(context).at(-1);
    const name = route === undefined ? "" : `${route.method.toLowerCase()} ${route.path}`;
    const repeat = REPEATS.get(name) ?? null;
    const key = repeat === null ? null : idempotencyKey(context);
    if (key === null || repeat === "pure") return next();
    if (repeat === "answer") return kept.once(context, { key, name }, next);
    if (requests.find(key, { nowMs: core.clock.now() }) !== null) throw conflict(key);
    return next();
  };
};

class KeptAnswers {
  readonly #core: Core;
  readonly #requests: RequestStore;
  readonly #running = new Map<string, Running>();

  constructor(core: Core, requests: RequestStore) {
    this.#core = core;
    this.#requests = requests;
  }

  async once(context: Context, { key, name }: { key: string; name: string }, next: () => Promise<void>): Promise<Response | void> {
    const body = await context.req.text();
    const fingerprint = fingerprintOf(context, body);
    if (this.#core.operations.hasKey(key)) throw conflict(key);
    for (let running = this.#running.get(key); running !== undefined; running = this.#running.get(key)) {
      if (running.fingerprint !== fingerprint) throw conflict(key);
      const answer = await running.answer;
      if (answer !== null) return replay(answer);
    }
    // from here to the entry in #running is one turn
    const known = this.#requests.find(key, { nowMs: this.#core.clock.now() });
    if (known !== null && known.fingerprint !== fingerprint) throw conflict(key);
    if (known !== null && known.answer !== null) return replay(JSON.parse(known.answer) as KeptAnswer);
    const plan: AfterCrash = known === null ? { do: "again" } : (AFTER_CRASH[name]?.(body) ?? { do: "refuse" });
    if (plan.do === "refuse") throw unknownEffect(context, key);
    if (plan.do === "nothing") return replay(plan.answer);
    return this.#run({ context, key, fingerprint, plan }, next);
  }

  async #run(
    { context, key, fingerprint, plan }: { context: Context; key: string; fingerprint: string; plan: AfterCrash & { do: "again" } },
    next: () => Promise<void>,
  ): Promise<void> {
    const ended = Promise.withResolvers<KeptAnswer | null>();
    let answer: KeptAnswer | null = null;
    this.#running.set(key, { fingerprint, answer: ended.promise });
    try {
      this.#write(key, () => this.#requests.begin(key, { fingerprint, nowMs: this.#core.clock.now() }));
      await next();
      const isDone = context.error !== undefined && asKilnError(context.error).code === plan.doneBy;
      answer = isDone ? (plan.answer ?? null) : await answerOf(context.res);
      const text = answer === null ? null : JSON.stringify(answer);
      this.#write(key, () =>
        text === null || text.length > HTTP_LIMITS.keptAnswerLength ? this.#requests.forget(key) : this.#requests.answer(key, text),
      );
      if (isDone && answer !== null) replaceAnswer(context, replay(answer));
    } finally {
      this.#running.delete(key);
      ended.resolve(answer);
    }
  }

  /** A disk without room must not keep anybody from making room: then a key is known for as long as its request runs. */
  #write(key: string, write: () => void): void {
    try {
      write();
    } catch (thrown) {
      const error = asKilnError(thrown);
      if (error.code !== "DISK_FULL") throw error;
      this.#core.journal.warn({ key, error: error.message }, "a request could not be written down");
    }
  }
}

/** Without the first one's headers, which hono would copy. */
const replaceAnswer = (context: Context, answer: Response): void => {
  context.res = undefined;
  context.res = answer;
};

/** null for a failure. */
const answerOf = async (response: Response): Promise<KeptAnswer | null> => {
  if (response.status >= 400) return null;
  const text = await response.clone().text();
  return { status: response.status, body: text === "" ? null : text };
};

const replay = ({ status, body }: KeptAnswer): Response =>
  new Response(body, {
    status,
    headers: { "idempotency-replayed": "true", ...(body === null ? {} : { "content-type": "application/json" }) },
  });

const fingerprintOf = (context: Context, body: string): string => {
  const { pathname, search } = new URL(context.req.url);
  return createHash("sha256")
    .update(JSON.stringify([context.req.method, pathname, search, body]))
    .digest("hex");
};

const conflict = (key: string): KilnError =>
  new KilnError("IDEMPOTENCY_CONFLICT", `the idempotency key ${key} was used for another request`, { object: key });

const unknownEffect = (context: Context, key: string): KilnError =>
  new KilnError(
    "INTERRUPTED",
    `the daemon ended while ${context.req.method} ${context.req.path} ran, and it is not known whether it took effect`,
    {
      object: key,
      hint: "look at what it was about, then ask again with another idempotency key",
    },
  );
