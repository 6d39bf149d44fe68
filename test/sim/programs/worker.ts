import { parentPort, workerData } from "node:worker_threads";
import type { BatchResult, Finding, Share } from "./batch.ts";
import { drawProgram } from "./draw.ts";
import { runGuarded } from "./guarded.ts";
import { countOf } from "./program.ts";
import { checkOf } from "./violation.ts";

/** More would say the same. */
const FINDINGS_MOST = 50;

/** Most errors are expected and looked at by their code; a seed that fails is replayed with all of its words. */
Error.stackTraceLimit = 0;

const { first, stride, count } = workerData as Share;
let [schedules, steps, crashes, commands] = [0, 0, 0, 0];
const findings: Finding[] = [];
for (let index = 0; index < count && findings.length < FINDINGS_MOST; index += 1) {
  const seed = first + index * stride;
  const program = drawProgram(seed);
  const outcome = await runGuarded(program, seed);
  schedules += 1;
  steps += outcome.steps;
  crashes += outcome.crashes;
  commands += countOf(program);
  if (outcome.failure !== null) findings.push({ seed, check: checkOf(outcome.failure), message: outcome.failure.message });
}
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const post = (result: BatchResult): void => parentPort?.postMessage(result);
post({ schedules, steps, crashes, commands, findings });
