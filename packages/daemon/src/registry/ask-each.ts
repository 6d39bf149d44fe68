import { KilnError } from "@kiln/protocol";
import type { AttemptParts } from "./attempts.ts";
import type { Endpoint } from "./endpoint.ts";
import { namedError, type Wanted } from "./naming.ts";

type Options = AttemptParts & { readonly signal: AbortSignal };

/**
 * Asks one host after the other, the mirrors first: one that lacks the thing, is down or sends something else is passed
 * over. What all of them did is in the one error, whose code is that of the registry itself.
 */
export const askEach = async <Result>(
  endpoints: readonly Endpoint[],
  request: { readonly wanted: Wanted; readonly run: (endpoint: Endpoint, options: Options) => Promise<Result> },
  options: Options,
): Promise<Result> => {
  const said: string[] = [];
  let last: unknown = new KilnError("INTERNAL", "there is no host to ask");
  for (const endpoint of endpoints) {
    try {
      return await request.run(endpoint, { ...options, limits: endpoint.limitsOf(options.limits) });
    } catch (error) {
      options.signal.throwIfAborted();
      const named = namedError(error, request.wanted);
      if (named === error) throw error;
      last = error;
      said.push(`${endpoint.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw namedError(last, request.wanted, said);
};
