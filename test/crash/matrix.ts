/** The matrix as a whole: failpoints by operations. */
import { availableParallelism } from "node:os";
import { type Cell, type CellResult, type Hit, runCell, traceOperation } from "./cells.ts";
import { type CrashOperation, OPERATIONS, UNMET } from "./operations.ts";
import { selectHits } from "./select.ts";
import { copyHome, type Stage } from "./stage.ts";

/** Places at which a failure is tried as well: the steps of sagas on their way forwards. */
const SAGA_STEP = /^[a-z]+\.[a-z]+\.[a-z]+\.(begun|done|recorded)$/;
const isForward = ({ point }: Hit): boolean => SAGA_STEP.test(point) && !point.startsWith("record.");

export interface Planned {
  readonly operation: CrashOperation;
  /** The home from which each cell begins. */
  readonly from: string;
  readonly hits: readonly Hit[];
}

/** What one cell needs to be run. */
export interface PlannedCell {
  readonly cell: Cell;
  readonly from: string;
}

/** The names of all failpoints, as the daemon has them. */
export const listPoints = async (stage: Stage): Promise<readonly string[]> => {
  const home = await copyHome(stage, stage.template);
  const points = await home.json<string[]>("doctor", "--failpoints");
  await home.ok("daemon", "stop");
  return points;
};

/** Prepares each operation's home, and finds what it meets. */
export const planOperations = (
  stage: Stage,
  { operations, signal }: { readonly operations: readonly CrashOperation[]; readonly signal: AbortSignal },
): Promise<readonly Planned[]> =>
  inParallel(operations, async (operation) => {
    signal.throwIfAborted();
    const home = await copyHome(stage, operation.from === "withoutKernel" ? stage.withoutKernel : stage.template);
    if (operation.prepare !== undefined) await operation.prepare(home, stage);
    if (operation.leavesCrash !== true) await home.ok("daemon", "stop");
    return { operation, from: home.path, hits: await traceOperation(stage, operation, home.path) };
  });

/** A kill at each place that matters, and an error at each step of a saga in the first operation that does it. */
export const planCells = (planned: readonly Planned[]): readonly PlannedCell[] => {
  const failed = new Set<string>();
  return planned.flatMap(({ operation, from, hits }) => {
    const kills = selectHits(hits).map((hit): Cell => ({ operation, ...hit, action: "kill" }));
    const steps = operation.failsAt === undefined && operation.isStart !== true ? hits.filter(isForward) : [];
    const errors = steps.flatMap((hit): Cell[] => {
      if (failed.has(hit.point)) return [];
      failed.add(hit.point);
      return [{ operation, ...hit, action: "error" }];
    });
    return [...kills, ...errors].map((cell) => ({ cell, from }));
  });
};

/** What of the whole matrix does not fit the failpoints that there are. */
export const complaintsAboutPlan = (points: readonly string[], planned: readonly Planned[]): readonly string[] => {
  const met = new Set(planned.flatMap(({ hits }) => hits.map(({ point }) => point)));
  return [
    ...points.filter((point) => !met.has(point) && UNMET[point] === undefined).map((point) => `no operation meets ${point}`),
    ...Object.keys(UNMET)
      .filter((point) => met.has(point) || !points.includes(point))
      .map((point) => `${point} is no exception`),
  ];
};

/** Allowances that nothing needs. */
export const complaintsAboutAllowances = (results: readonly CellResult[]): readonly string[] =>
  OPERATIONS.flatMap((operation) => {
    const outcomes = new Set(results.filter(({ cell }) => cell.operation === operation).map(({ outcome }) => outcome));
    return (operation.mayEndWith ?? []).filter((code) => !outcomes.has(code)).map((code) => `${operation.name} never ends with ${code}`);
  });

/** As many at once as there are CPUs; `onResult` hears of each as it ends. */
export const runCells = (
  stage: Stage,
  cells: readonly PlannedCell[],
  { onResult, signal }: { readonly onResult: (result: CellResult) => void; readonly signal: AbortSignal },
): Promise<readonly CellResult[]> => {
  return inParallel(cells, async ({ cell, from }) => {
    signal.throwIfAborted();
    const broken = (error: unknown): CellResult => ({ cell, outcome: "unknown", complaints: [`the cell itself failed: ${String(error)}`] });
    const result = await runCell(stage, cell, from).catch(broken);
    onResult(result);
    return result;
  });
};

/** The results in the order of the items. */
const inParallel = async <Item, Result>(items: readonly Item[], work: (item: Item) => Promise<Result>): Promise<readonly Result[]> => {
  const results = new Map<number, Result>();
  const rest = items.entries();
  const workers = Array.from({ length: availableParallelism() }, async () => {
    for (const [index, item] of rest) results.set(index, await work(item));
  });
  const ended = await Promise.allSettled(workers);
  for (const end of ended) if (end.status === "rejected") throw end.reason;
  return [...results.entries()].toSorted(([one], [other]) => one - other).map(([, result]) => result);
};
