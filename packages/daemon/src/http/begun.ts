import { type OperationView, parseProblem } from "@kiln/protocol";
import type { Context } from "hono";
import { z } from "zod";
import type { Core } from "../operations/core.ts";
import { parseWith } from "./parse.ts";

const waitQuery = z.object({ wait: z.stringbool().default(false) });

/** Begins an operation and answers 202 with it; with `?wait=true` 200 once it has succeeded, or its error. Throws that one, and DAEMON_UNREACHABLE. */
export const answerBegun = async (
  context: Context,
  { operations }: Pick<Core, "operations">,
  begin: () => OperationView,
): Promise<Response> => {
  const { wait } = parseWith(waitQuery, context.req.query());
  const begun = begin();
  if (!wait) return context.json(begun, 202);
  const ended = await operations.wait(begun.id, { signal: context.req.raw.signal });
  if (ended.state === "succeeded") return context.json(ended, 200);
  throw parseProblem({ ...ended.error, object: ended.subject, operation: ended.id });
};
