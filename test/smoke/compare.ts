/** I41: the isolated scenarios one by one, and several at once, in one run and one home. */
import { availableParallelism } from "node:os";
import { type Ended, runScenarios } from "./runner.ts";
import type { Selection } from "./select.ts";
import { Stage } from "./stage.ts";

/** What several at once may take of their serial time, on two CPUs with four jobs. */
export const GOAL = 0.65;

interface Side {
  readonly jobs: number;
  readonly wallMs: number;
  /** Of commands, daemon and VMMs. */
  readonly cpuMs: number;
  readonly failed: number;
}

export interface CompareOptions {
  readonly out: (text: string) => void;
  readonly say: (text: string) => void;
  readonly show: (ended: Ended) => void;
  readonly signal: AbortSignal;
}

export const compare = async (selection: Selection, { out, say, show, signal }: CompareOptions): Promise<boolean> => {
  const { jobs, rounds, json } = selection;
  const scenarios = selection.scenarios.filter(({ kind }) => kind === "isolated");
  say(`fetching and building what VMs start from; then ${scenarios.length} isolated scenarios, one by one and ${jobs} at once`);
  const stage = await Stage.create({ signal });
  const sides: Side[] = [];
  const left: string[] = [];
  const run = async (jobs: number): Promise<void> => {
    const [cpuMs, began] = [await stage.cpuMs(), performance.now()];
    const onEnd = (ended: Ended): void => (ended.state === "failed" ? show(ended) : undefined);
    const ended = await runScenarios(scenarios, { host: stage, jobs, signal, onEnd });
    const wallMs = performance.now() - began;
    sides.push({ jobs, wallMs, cpuMs: (await stage.cpuMs()) - cpuMs, failed: ended.filter(({ state }) => state === "failed").length });
    left.push(...(await stage.leftovers()));
  };
  try {
    // who comes first has the colder caches: the order changes with each round
    for (let round = 0; round < rounds && !signal.aborted; round += 1) {
      for (const count of round % 2 === 0 ? [1, jobs] : [jobs, 1]) await run(count);
    }
  } finally {
    left.push(...(await stage.close()));
  }
  const result = sumUp(sides, jobs);
  for (const line of left) say(line);
  out(json ? `${JSON.stringify({ ...result, goal: GOAL, cpus: availableParallelism(), left })}\n` : render(result));
  return result.failed === 0 && left.length === 0 && !signal.aborted;
};

export interface Comparison {
  readonly jobs: number;
  readonly serial: { readonly wallMs: number; readonly cpuMs: number };
  readonly parallel: { readonly wallMs: number; readonly cpuMs: number };
  readonly ratio: number;
  readonly failed: number;
}

const sumUp = (sides: readonly Side[], jobs: number): Comparison => {
  const total = (wanted: readonly Side[]) => ({
    wallMs: Math.round(wanted.reduce((sum, { wallMs }) => sum + wallMs, 0)),
    cpuMs: Math.round(wanted.reduce((sum, { cpuMs }) => sum + cpuMs, 0)),
  });
  const serial = total(sides.filter((_, index) => index % 4 === 0 || index % 4 === 3));
  const parallel = total(sides.filter((_, index) => index % 4 === 1 || index % 4 === 2));
  const failed = sides.reduce((sum, one) => sum + one.failed, 0);
  return { jobs, serial, parallel, ratio: Number((parallel.wallMs / serial.wallMs).toFixed(3)), failed };
};

const render = ({ jobs, serial, parallel, ratio, failed }: Comparison): string => {
  const cpus = availableParallelism();
  const side = (name: string, { wallMs, cpuMs }: Comparison["serial"]): string =>
    `${name}: wall ${(wallMs / 1000).toFixed(1)} s, CPU ${(cpuMs / 1000).toFixed(1)} s, ${(cpuMs / wallMs).toFixed(2)} of ${cpus} CPUs busy with it`;
  return [
    side("one by one", serial),
    side(`${jobs} at once`, parallel),
    `ratio ${ratio} (goal ${GOAL}; no less than ${(serial.cpuMs / cpus / serial.wallMs).toFixed(2)} is possible with this CPU time)`,
    failed > 0 ? `${failed} failed\n` : "",
  ].join("\n");
};
