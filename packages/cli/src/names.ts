import { asKilnError, KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "./context.ts";
import { Failure } from "./failure.ts";
import { renderError } from "./render/error.ts";
import { writeTo } from "./streams.ts";

export interface EachName<Result> {
  readonly names: readonly string[];
  readonly act: (name: string) => Promise<Result>;
  /** What a person reads of a success; null is nothing. */
  readonly print: (result: Result, name: string) => string | null;
}

/**
 * Does one thing to each of several objects at once, and reports in the order of the names: docker's way, successes
 * on stdout, errors on stderr, the worst exit code. With --json one object for one name and an array for several, or,
 * if anything failed, only the problem of the worst with the others as its causes.
 */
export const forEachName = async <Result>(context: CommandContext, each: EachName<Result>): Promise<number> => {
  const ends = await Promise.allSettled(each.names.map((name) => each.act(name)));
  if (context.signal.aborted) throw context.signal.reason;
  const errors = ends.flatMap((end) => (end.status === "rejected" ? [asKilnError(end.reason)] : []));
  if (context.json) {
    if (errors.length > 0) throw joined(errors);
    const results = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
    await context.printJson(results.length === 1 ? results[0] : results);
    return 0;
  }
  for (const [at, end] of ends.entries()) {
    if (end.status === "rejected") {
      const error = asKilnError(end.reason);
      await writeTo(context.host.stderr, renderError(error, { json: false, exitCode: error.exitCode }));
      continue;
    }
    const text = each.print(end.value, each.names[at] ?? "");
    if (text !== null) await context.print(`${text}\n`);
  }
  return Math.max(0, ...errors.map((error) => error.exitCode));
};

/** The same for the failures of what has printed its successes by itself: each on stderr, or with --json the worst with the others as its causes. */
export const tellFailures = async (context: CommandContext, errors: readonly KilnError[]): Promise<number> => {
  if (context.json && errors.length > 0) throw joined(errors);
  for (const error of errors) await writeTo(context.host.stderr, renderError(error, { json: false, exitCode: error.exitCode }));
  return Math.max(0, ...errors.map((error) => error.exitCode));
};

const joined = (errors: readonly KilnError[]): Failure => {
  const worst = errors.toSorted((a, b) => b.exitCode - a.exitCode)[0] ?? new KilnError("INTERNAL", "nothing failed");
  const others = errors.filter((error) => error !== worst).map((error) => error.message);
  const { code, message, exitCode, hint, cause } = worst;
  const options = { hint, cause, object: worst.object ?? undefined, operation: worst.operation ?? undefined };
  const remoteCauses = [...worst.remoteCauses, ...others];
  return new Failure(new KilnError(code, message, { ...options, remoteCauses }), exitCode);
};
