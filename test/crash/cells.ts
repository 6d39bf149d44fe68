/** One cell: an operation whose daemon ends at one place, and what is there afterwards. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Outcome, type TestHome, waitUntil } from "../e2e/home.ts";
import { ifThere } from "./if-there.ts";
import type { CrashOperation } from "./operations.ts";
import { readRecords } from "./records.ts";
import { copyHome, type Stage } from "./stage.ts";
import { complaintsAbout, complaintsAfterStop, endProcessesOf } from "./world.ts";

/** A place in an operation: the nth time, counted from the daemon's start, that a failpoint is met. */
export interface Hit {
  readonly point: string;
  readonly nth: number;
}

export type Action = "kill" | "error";

export interface Cell extends Hit {
  readonly operation: CrashOperation;
  readonly action: Action;
}

export interface CellResult {
  readonly cell: Cell;
  /** How the command ended: "finished", or the code of its error. */
  readonly outcome: string;
  /** What is not as it has to be; nothing if all is well. */
  readonly complaints: readonly string[];
}

const POLL_MS = 15;
/** Until nothing is to be done any more. */
const QUIET_MS = 30_000;
/** A daemon that has nothing to do and has not met the failpoint by then does not meet it. */
const LATE_MS = 400;
const TRANSITIONAL = new Set(["starting", "stopping", "paused"]);
const READY = "the daemon is ready";

/** A home of the operation's own, as it is before its command. */
export class CellHome implements AsyncDisposable {
  readonly home: TestHome;
  readonly operation: CrashOperation;
  readonly #stage: Stage;
  #mark = 0;

  private constructor(home: TestHome, operation: CrashOperation, stage: Stage) {
    this.home = home;
    this.operation = operation;
    this.#stage = stage;
  }

  static async create(stage: Stage, operation: CrashOperation, from: string): Promise<CellHome> {
    const home = await copyHome(stage, from);
    await rm(join(home.path, "daemon.log"), { force: true }); // of the daemons that made it
    return new CellHome(home, operation, stage);
  }

  /** The command in a daemon that is told so; what goes before it is done when this begins. */
  async command(failpoints: string): Promise<Outcome> {
    const { home, operation } = this;
    const all = operation.failsAt === undefined ? failpoints : `${failpoints},${operation.failsAt}=error`;
    const env = { KILN_TEST: "1", KILN_FAILPOINT: all, ...this.#env() };
    for (const words of operation.before ?? []) {
      const outcome = await home.kiln(words, { env });
      if (outcome.code !== 0) return outcome;
    }
    this.#mark = operation.before === undefined ? 0 : (await this.#log()).length;
    return home.kiln(["--json", ...operation.command(this.#stage)], { env });
  }

  async again(): Promise<Outcome> {
    return this.home.kiln(["--json", ...(this.operation.again ?? this.operation.command(this.#stage))], { env: this.#env() });
  }

  /** Starts a daemon wherever there is none, until there is nothing more to do. Returns what keeps it from that. */
  async untilQuiet(how: { readonly action: Action }): Promise<string[]> {
    const deadline = Date.now() + QUIET_MS;
    for (;;) {
      if (!(await this.daemonRuns())) {
        const started = await this.home.kiln(["daemon", "start"], { env: this.#env() });
        if (started.code !== 0) return [`no daemon starts: ${started.stderr}`];
      }
      const open = openWork(this.home.path, how);
      if (open.length === 0) return [];
      if (Date.now() > deadline) return open;
      await sleep(POLL_MS);
    }
  }

  /** Whether the failpoint was met; waits a moment for what the daemon does after its answer. */
  async hasMet({ point, action }: { readonly point: string; readonly action: Action }): Promise<boolean> {
    const deadline = Date.now() + LATE_MS;
    for (;;) {
      if ((await this.#log()).includes(`failpoint ${point} ${action}\n`)) return true;
      if (Date.now() > deadline) return false;
      await sleep(POLL_MS);
    }
  }

  /** What a traced command has met: since the daemon was ready, or since its start where that is the operation. */
  async hits(): Promise<readonly Hit[]> {
    const log = await this.#log();
    const ready = log.indexOf(READY);
    const from = this.operation.isStart === true ? 0 : Math.max(this.#mark, ready);
    const counts = new Map<string, number>();
    return [...log.matchAll(/^failpoint (\S+)\n/gm)].flatMap(({ 1: point = "", index }) => {
      const nth = (counts.get(point) ?? 0) + 1;
      counts.set(point, nth);
      return index >= from ? [{ point, nth }] : [];
    });
  }

  async stop(): Promise<void> {
    const pid = await this.#daemonPid();
    if (pid !== null) process.kill(pid, "SIGTERM");
    await waitUntil(async () => (await this.#daemonPid()) === null, "the daemon's end");
  }

  async daemonRuns(): Promise<boolean> {
    return (await this.#daemonPid()) !== null;
  }

  /** Of the process that holds the home; null where it has ended. */
  async #daemonPid(): Promise<number | null> {
    const text = await ifThere(readFile(join(this.home.path, "daemon.json"), "utf8"), "{}");
    const { pid } = JSON.parse(text) as { readonly pid?: number };
    const command = pid === undefined ? "" : await ifThere(readFile(`/proc/${pid}/cmdline`, "utf8"), "");
    return pid !== undefined && command.includes(this.home.path) ? pid : null;
  }

  #env(): Readonly<Record<string, string>> {
    const { KILN_AGENT: agent, ...env } = this.operation.env ?? {};
    return agent === undefined ? env : { ...env, KILN_AGENT: join(this.home.path, agent) };
  }

  #log(): Promise<string> {
    return ifThere(this.home.daemonLog(), "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endProcessesOf(this.home.path);
    await rm(this.home.path, { recursive: true, force: true });
  }
}

/** Operations, sagas and VMs that are on their way; a deletion that failed waits for who asks again, or the next daemon. */
const openWork = (home: string, { action }: { readonly action: Action }): string[] => {
  const { operations, sagas, vms } = readRecords(home);
  const isEnded = (state: string): boolean => state === "exited" || state === "failed";
  const isShort = (command: readonly string[] | null): boolean => command?.[0] !== "sleep";
  return [
    ...operations.map(({ kind }) => `the operation ${kind} does not end`),
    ...sagas.map(({ saga }) => `the saga ${saga} does not end`),
    ...vms
      .filter(
        ({ state, command }) =>
          TRANSITIONAL.has(state) || (state === "deleting" && action === "kill") || (state === "running" && isShort(command)),
      )
      .map(({ state }) => `a VM stays ${state}`),
    ...vms
      .filter(({ state, autoRemove }) => autoRemove && isEnded(state) && action === "kill")
      .map(() => "a VM that goes with its end stays"),
  ];
};

/** What an operation meets on its way, in order. */
export const traceOperation = async (stage: Stage, operation: CrashOperation, from: string): Promise<readonly Hit[]> => {
  await using cell = await CellHome.create(stage, operation, from);
  const outcome = await cell.command("trace");
  if ((outcome.code === 0) === (operation.failsAt !== undefined))
    throw new Error(`${operation.name}: exit code ${outcome.code}: ${outcome.stderr}`);
  const open = await cell.untilQuiet({ action: "kill" });
  if (open.length > 0) throw new Error(`${operation.name}: ${open.join("; ")}`);
  await sleep(LATE_MS);
  const { only, failsAt } = operation;
  const hits = await cell.hits();
  // until it fails it is the operation that does not
  const own = hits.slice(failsAt === undefined ? 0 : hits.findIndex(({ point }) => point === failsAt) + 1);
  return own.filter(({ point }) => only === undefined || only.points.test(point));
};

/** Ends the daemon there, lets the command and the next daemon go on, and compares. */
export const runCell = async (stage: Stage, cell: Cell, from: string): Promise<CellResult> => {
  await using home = await CellHome.create(stage, cell.operation, from);
  const ended = await home.command(`${cell.point}:${cell.nth}=${cell.action}`);
  const outcome = outcomeOf(ended);
  const complaints = await home.untilQuiet(cell);
  const wasMet = await home.hasMet(cell);
  if (!wasMet) complaints.push("the failpoint was not met");
  if (complaints.length === 0 && cell.action === "kill") complaints.push(...(await home.untilQuiet(cell)));
  if (complaints.length > 0) return { cell, outcome, complaints };
  complaints.push(...complaintsAboutOutcome(cell, outcome, ended), ...(await complaintsAbout(home.home.path, cell)));
  complaints.push(...(await complaintsAboutAgain(home, cell)));
  return { cell, outcome, complaints };
};

/** The same command once more, in the home as the crash has left it. */
const complaintsAboutAgain = async (home: CellHome, { action }: Cell): Promise<string[]> => {
  const again = await home.again();
  const failed = again.code === 0 ? [] : [`again: exit code ${again.code}: ${again.stderr}`];
  if (action === "error") await home.stop();
  const open = await home.untilQuiet({ action: "kill" });
  const about = open.length > 0 ? open : await complaintsAbout(home.home.path, { action: "kill" });
  await home.stop();
  const stopped = await complaintsAfterStop(home.home.path);
  return [...failed, ...[...about, ...stopped].map((complaint) => `after it was done again: ${complaint}`)];
};

export const FINISHED = "finished";

const outcomeOf = ({ code, stderr }: Outcome): string => {
  if (code === 0) return FINISHED;
  return /"code":"([A-Z_]+)"/.exec(stderr)?.[1] ?? `exit code ${code}`;
};

const complaintsAboutOutcome = (cell: Cell, outcome: string, { stdout, stderr }: Outcome): string[] => {
  const { operation, action } = cell;
  const expected = [
    FINISHED,
    ...(operation.mayEndWith ?? []),
    ...(operation.mightEndWith ?? []),
    ...(action === "error" ? ["INTERNAL"] : []),
  ];
  const complaints = expected.includes(outcome) ? [] : [`the command ended with ${outcome}: ${stderr}`];
  const isSilent = operation.prints === undefined || outcome !== FINISHED || stdout === operation.prints;
  return isSilent ? complaints : [...complaints, `its output was ${JSON.stringify(stdout)}`];
};
