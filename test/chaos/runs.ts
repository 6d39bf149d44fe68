/** Seed after seed on one ground; one that fails leaves its logs and is followed by a fresh ground. */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { complaintsAfterStop } from "../crash/world.ts";
import { ROOT } from "../fixtures/cache.ts";
import { Ground } from "./ground.ts";
import { type ChaosDriver, type FaultKind, planSeed } from "./plan.ts";
import { runSeed, type SeedResult } from "./seed.ts";

export interface ChaosRequest {
  readonly driver: ChaosDriver;
  readonly seeds: number;
  readonly first: number;
  readonly ops: number;
  readonly clients: number;
}

export interface ChaosSummary extends ChaosRequest {
  /** Seeds that were run. */
  readonly ran: number;
  readonly seconds: number;
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly nonces: { readonly acknowledged: number; readonly all: number };
  readonly failed: readonly {
    readonly seed: number;
    readonly replay: string;
    readonly logs: string;
    readonly complaints: readonly string[];
  }[];
}

const LOGS = join(ROOT, ".cache/chaos");
const SAY_EVERY_MS = 10_000;
/** A seed that makes nothing but complaints says nothing new by its hundredth. */
const COMPLAINTS = 20;

export const replayOf = ({ driver, ops, clients }: Omit<ChaosRequest, "seeds" | "first">, seed: number): string =>
  `npm run chaos -- --driver ${driver} --seeds 1 --ops ${ops} --clients ${clients} --seed ${seed}`;

export const runChaos = async (
  request: ChaosRequest,
  { say, signal }: { readonly say: (text: string) => void; readonly signal: AbortSignal },
): Promise<ChaosSummary> => {
  const began = performance.now();
  const tally = new Tally();
  let ground = await Ground.create(request.driver);
  try {
    let said = performance.now();
    for (let seed = request.first; seed < request.first + request.seeds && !signal.aborted; seed += 1) {
      const result = await runSeed(ground, planSeed(seed, request));
      const logs = join(LOGS, `${request.driver}-${seed}`);
      tally.add(result, { replay: replayOf(request, seed), logs });
      if (result.complaints.length > 0) {
        await keepLogs(ground, result, logs);
        say(`seed ${seed} failed; its logs are in ${logs}; replay: ${replayOf(request, seed)}`);
        for (const complaint of result.complaints.slice(0, COMPLAINTS)) say(`    ${complaint}`);
        // what it has left behind is not the next one's
        await ground[Symbol.asyncDispose]();
        ground = await Ground.create(request.driver);
      }
      if (performance.now() - said > SAY_EVERY_MS) {
        said = performance.now();
        say(`${tally.ran} of ${request.seeds} seeds, ${tally.failed.length} failed, ${Math.round((said - began) / 1000)} s`);
      }
    }
    await ground.endDaemon("SIGTERM");
    const complaints = await complaintsAfterStop(ground.home.path);
    if (complaints.length > 0) tally.failed.push({ seed: request.first + tally.ran - 1, replay: "", logs: "", complaints });
    return tally.summary(request, (performance.now() - began) / 1000);
  } finally {
    await ground[Symbol.asyncDispose]();
  }
};

const keepLogs = async (ground: Ground, { complaints }: SeedResult, logs: string): Promise<void> => {
  await mkdir(logs, { recursive: true });
  await writeFile(join(logs, "complaints"), `${complaints.join("\n")}\n`);
  await copyFile(ground.log, join(logs, "chaos.log"));
  for (const name of ["daemon.log", "kiln.db", "kiln.db-wal"]) await ground.keep(name, logs);
};

class Tally {
  ran = 0;
  readonly failed: ChaosSummary["failed"][number][] = [];
  readonly #faults = new Map<FaultKind, number>();
  readonly #outcomes = new Map<string, number>();
  #acknowledged = 0;
  #all = 0;

  add({ seed, complaints, outcomes, faults, nonces }: SeedResult, where: { readonly replay: string; readonly logs: string }): void {
    this.ran += 1;
    if (complaints.length > 0) this.failed.push({ seed, ...where, complaints });
    for (const kind of faults) this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + 1);
    for (const [outcome, count] of outcomes) this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + count);
    this.#acknowledged += nonces.acknowledged;
    this.#all += nonces.all;
  }

  summary(request: ChaosRequest, seconds: number): ChaosSummary {
    return {
      ...{ ...request, ran: this.ran, seconds: Math.round(seconds), failed: this.failed },
      faults: Object.fromEntries(this.#faults),
      outcomes: Object.fromEntries([...this.#outcomes].sort(([a], [b]) => a.localeCompare(b))),
      nonces: { acknowledged: this.#acknowledged, all: this.#all },
    };
  }
}
