import { KilnError, parseProblem } from "@kiln/protocol/errors";
import type { OperationView } from "@kiln/protocol";
import { isUnreachable, NEVER, type ApiClient, type CallOptions } from "../api-client.ts";
import { SDK_LIMITS } from "../limits.ts";
import { Patience } from "../patience.ts";

export interface FollowOptions extends CallOptions {
  /** Hears each change, the last one included. */
  readonly onChange?: ((operation: OperationView) => void) | undefined;
}

const isOver = (operation: OperationView): boolean =>
  operation.finishedAt !== null || operation.state === "succeeded" || operation.state === "failed" || operation.state === "cancelled";

const pathOf = (id: string): string => `/v1/operations/${encodeURIComponent(id)}`;

/** The error of an operation that did not succeed: the daemon's own, with the operation's id. */
export const operationError = (operation: OperationView): KilnError => {
  if (operation.error !== null) return parseProblem({ ...operation.error, object: operation.subject, operation: operation.id });
  return new KilnError("CANCELLED", `${operation.kind} of ${operation.subject} was cancelled`, {
    object: operation.subject,
    operation: operation.id,
  });
};

/** Long-running actions. */
export class Operations {
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  list(options: CallOptions & { readonly all?: boolean } = {}): Promise<OperationView[]> {
    return this.#api.json("GET", "/v1/operations", { query: { all: options.all ?? false }, signal: options.signal });
  }

  get(id: string, options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("GET", pathOf(id), options);
  }

  /** Resolves when it has ended, however it ended. */
  async wait(id: string, options: CallOptions = {}): Promise<OperationView> {
    const { clock } = this.#api;
    const patience = new Patience(clock);
    for (;;) {
      try {
        const operation = await this.#api.json<OperationView>("GET", pathOf(id), { query: { wait: true }, signal: options.signal });
        if (isOver(operation)) return operation;
        patience.answered();
      } catch (error) {
        // the next daemon goes on with it under the same id
        if (!isUnreachable(error) || patience.isOver(SDK_LIMITS.sessionPatienceMs)) throw error;
        await clock.sleep(SDK_LIMITS.sessionRetryMaxMs / 4, { signal: options.signal ?? NEVER });
      }
    }
  }

  /** The operation after each change; its end is the last one. A broken connection is opened again. */
  async *watch(id: string, options: CallOptions = {}): AsyncGenerator<OperationView> {
    const { clock } = this.#api;
    const patience = new Patience(clock);
    for (;;) {
      try {
        for await (const operation of this.#api.lines<OperationView>(`${pathOf(id)}/watch`, options)) {
          patience.answered();
          yield operation;
          if (isOver(operation)) return;
        }
      } catch (error) {
        if (!isUnreachable(error) || patience.isOver(SDK_LIMITS.sessionPatienceMs)) throw error;
      }
      await clock.sleep(SDK_LIMITS.sessionRetryMaxMs / 4, { signal: options.signal ?? NEVER });
    }
  }

  /** Resolves with the operation that has succeeded; throws what made it fail, CANCELLED if it was cancelled. */
  async result(operation: OperationView, options: FollowOptions = {}): Promise<OperationView> {
    let last = operation;
    options.onChange?.(last);
    if (!isOver(last)) {
      if (options.onChange === undefined) {
        last = await this.wait(operation.id, options);
      } else {
        for await (const change of this.watch(operation.id, options)) {
          last = change;
          options.onChange(change);
        }
      }
    }
    if (last.state !== "succeeded") throw operationError(last);
    return last;
  }

  cancel(id: string, options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("POST", `${pathOf(id)}/cancel`, { json: {}, signal: options.signal });
  }
}
