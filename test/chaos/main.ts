/** `npm run chaos -- --seeds N --ops M [--driver fake|qemu] [--seed S] [--clients 8] [--json] [--report] [--kept]`: random commands under faults, judged. */
import { parseArgs } from "node:util";
import { KEPT } from "./kept.ts";
import { type ChaosRequest, runChaos } from "./runs.ts";
import { renderResults, writeReport } from "./page.ts";

const say = (text: string): void => void process.stderr.write(`chaos: ${text}\n`);

const parseCount = (name: string, text: string): number => {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new Error(`--${name} ${text} is no positive number`);
  return count;
};

const parse = (argv: readonly string[]): ChaosRequest & { readonly json: boolean; readonly report: boolean; readonly kept: boolean } => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...{ seeds: { type: "string", default: "1" }, ops: { type: "string", default: "40" }, seed: { type: "string", default: "1" } },
      ...{ driver: { type: "string", default: "fake" }, clients: { type: "string", default: "8" } },
      ...{ json: { type: "boolean", default: false }, report: { type: "boolean", default: false } },
      kept: { type: "boolean", default: false },
    },
  } as const);
  const { driver } = values;
  if (driver !== "fake" && driver !== "qemu") throw new Error(`there is no driver ${driver}; there are fake and qemu`);
  const count = (name: "seeds" | "ops" | "seed" | "clients"): number => parseCount(name, values[name]);
  return {
    ...{ driver, seeds: count("seeds"), first: count("seed"), ops: count("ops"), clients: count("clients") },
    ...{ json: values.json, report: values.report, kept: values.kept },
  };
};

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => interrupt.abort(new Error(name)));
const parseOrEnd = (argv: readonly string[]): ReturnType<typeof parse> => {
  try {
    return parse(argv);
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    process.exit(2);
  }
};

const { json, report, kept, ...asked } = parseOrEnd(process.argv.slice(2));
const requests = kept ? KEPT.map(({ found: _found, ...one }) => ({ ...one, seeds: 1 })) : [asked];
for (const request of requests) {
  const summary = await runChaos(request, { say, signal: interrupt.signal });
  process.stdout.write(json ? `${JSON.stringify(summary)}\n` : renderResults(summary));
  if (report && summary.ran > 0) await writeReport(summary);
  if (summary.failed.length > 0) process.exitCode = 1;
}
if (interrupt.signal.aborted) process.exitCode = 130;
