/** One seed from its first command to the judgement of what is left. */
import { OPERATION_LIMITS } from "../../packages/daemon/src/operations/limits.ts";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { asKilnError, KilnError, type KilnEvent, type VmView } from "@kiln/protocol";
import { complaintsAbout } from "../crash/world.ts";
import { Client } from "./client.ts";
import { strike } from "./faults.ts";
import type { Ground } from "./ground.ts";
import { type Answer, type Failure, judgeAnswers, judgeFailures, judgeJournal, judgeKept, judgeNonces, judgeTold } from "./judge.ts";
import { Ledger } from "./ledger.ts";
import { readGuestNotes, readHostNotes, type NonceCount } from "./nonces.ts";
import type { Command, FaultKind, Plan } from "./plan.ts";
import { wordsOf } from "./words.ts";

export interface SeedResult {
  readonly seed: number;
  /** What is not as it has to be; nothing if all is well. */
  readonly complaints: readonly string[];
  /** Of commands, by kind and how they ended. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly faults: readonly FaultKind[];
  /** Nonces that were acknowledged, and all. */
  readonly nonces: { readonly acknowledged: number; readonly all: number };
  readonly seconds: number;
}

/** Until nothing is to be done any more, with no fault left. */
const QUIET_MS = 60_000;
const POLL_MS = 20;
/** A command in a VM that runs, on a busy machine. */
const ANSWER_MS = 20_000;
const RETRY_MS = 200;
const SAMPLES = 3;
const ENDS_DAEMON: ReadonlySet<string> = new Set(["kill-daemon", "stop-daemon"]);
const ON_ITS_WAY: ReadonlySet<string> = new Set(["starting", "stopping", "paused", "deleting"]);

export const runSeed = async (ground: Ground, plan: Plan): Promise<SeedResult> => {
  const began = performance.now();
  await rm(ground.notes, { force: true });
  await ground.note(`seed ${plan.seed}`);
  const ledger = new Ledger();
  const since = ground.cursor;
  await runCommands(ground, plan, ledger);
  await ground.makeRoom();
  ground.registry.mood = null;
  await ground.ensureDaemon();
  // what a full disk did not take is written down within that time
  if (plan.faults.some(({ fault }) => fault.kind === "fill-disk")) await sleep(2 * OPERATION_LIMITS.unwrittenMs);
  const complaints = await judge(ground, { plan, ledger, since });
  return {
    ...{ seed: plan.seed, complaints, outcomes: ledger.outcomes, faults: plan.faults.map(({ fault }) => fault.kind) },
    nonces: { acknowledged: ledger.runs.filter((run) => run.acknowledged).length, all: ledger.runs.length },
    seconds: (performance.now() - began) / 1000,
  };
};

const runCommands = async (ground: Ground, plan: Plan, ledger: Ledger): Promise<void> => {
  let begun = 0;
  const left = [...plan.faults];
  const struck: Promise<void>[] = [];
  // one after another: a daemon is killed once at a time, and a disk is filled once
  let last: Promise<void> = Promise.resolve();
  const countOne = (): void => {
    begun += 1;
    for (let next = left[0]; next !== undefined && next.after <= begun; next = left[0]) {
      const { fault } = next;
      left.shift();
      last = last.then(() => strike(ground, fault));
      struck.push(last);
    }
  };
  const perform = async (commands: readonly Command[], index: number): Promise<void> => {
    using client = new Client({ ground, ledger, seed: plan.seed, index });
    for (const command of commands) {
      countOne();
      await client.perform(command);
    }
  };
  await Promise.all(plan.clients.map(perform));
  await Promise.all(struck);
};

const judge = async (
  ground: Ground,
  { plan, ledger, since }: { readonly plan: Plan; readonly ledger: Ledger; readonly since: number },
): Promise<string[]> => {
  const complaints = ledger.stuck.map((what) => `${what}: it did not come back`);
  complaints.push(...(await untilQuiet(ground)));
  complaints.push(...judgeAnswers(await askRunning(ground)));
  const present = await ground.kiln.vms.list();
  complaints.push(...judgeNonces(ledger.runs, await countNonces(ground, present)));
  const events = await eventsSince(ground, since);
  const removed = new Set(events.filter(({ type }) => type === "vm.removed").map(({ data }) => String(data["id"])));
  complaints.push(...judgeKept(ledger.created, { present: new Set(present.map(({ id }) => id)), removed }));
  const kinds = new Set(plan.faults.map(({ fault }) => fault.kind));
  complaints.push(...judgeFailures([...ledger.failures, ...events.flatMap(failureIn)], kinds));
  complaints.push(...(await removeAll(ground)));
  complaints.push(...(await untilQuiet(ground)));
  const whole = await eventsSince(ground, since);
  complaints.push(...judgeJournal(whole));
  // an end that a full disk did not take is told all the same, and a daemon that ends before there is room leaves the next one without it
  const mayBeLost = kinds.has("fill-disk") && [...kinds].some((kind) => ENDS_DAEMON.has(kind));
  if (!mayBeLost) complaints.push(...judgeTold(ledger.told, whole));
  ground.cursor = whole.at(-1)?.seq ?? since;
  complaints.push(...(await leftAtLast(ground, kinds.has("fill-disk"))));
  return complaints;
};

/** What is left when all is over; what a full disk did not let go is gone with the daemon's next look at it. */
const leftAtLast = async ({ home }: Ground, wasFull: boolean): Promise<readonly string[]> => {
  const deadline = performance.now() + (wasFull ? 2 * OPERATION_LIMITS.healMs : 0);
  for (;;) {
    const left = await complaintsAbout(home.path, { action: "kill" });
    if (left.length === 0 || performance.now() > deadline) return left;
    await sleep(POLL_MS * 10);
  }
};

/** What an event tells of a failure that no client may have seen. */
const failureIn = ({ type, subject, data }: KilnEvent): Failure[] => {
  const error = data["error"] as { readonly code: string; readonly detail: string } | null | undefined;
  if (error === null || error === undefined) return [];
  return [{ what: `the event ${type} of ${subject}`, code: error.code, message: error.detail, exit: null }];
};

const eventsSince = async ({ kiln }: Ground, since: number): Promise<KilnEvent[]> => {
  const events: KilnEvent[] = [];
  for await (const event of kiln.events({ since, until: "now" })) events.push(event);
  return events;
};

/** Waits until no operation runs and no VM is on its way; says what does not come to an end. */
const untilQuiet = async ({ kiln }: Ground): Promise<string[]> => {
  const deadline = performance.now() + QUIET_MS;
  for (;;) {
    const operations = await kiln.operations.list();
    const vms = (await kiln.vms.list()).filter(({ state }) => ON_ITS_WAY.has(state));
    if (operations.length + vms.length === 0) return [];
    if (performance.now() > deadline) {
      return [
        ...operations.map(({ id, kind, subject, phase }) => `the operation ${id}, ${kind} of ${subject}, does not end: ${phase ?? ""}`),
        ...vms.map(({ name, state }) => `the VM ${name} stays ${state}`),
      ];
    }
    await sleep(POLL_MS);
  }
};

const askRunning = async (ground: Ground): Promise<Answer[]> => {
  const running = (await ground.kiln.vms.list()).filter(({ state }) => state === "running").slice(0, SAMPLES);
  return Promise.all(running.map((vm) => ask(ground, vm)));
};

/** Asks until it answers: one that has just lost its agent's channel says that a retry can help, and is asked again. */
const ask = async (ground: Ground, { id, name }: VmView): Promise<Answer> => {
  const signal = AbortSignal.timeout(ANSWER_MS);
  for (;;) {
    try {
      await using session = ground.kiln.vms.exec(id, { command: wordsOf(ground).note("alive", 0) }, { signal });
      for await (const _chunk of session);
      const { exitCode } = await session.exit;
      if (exitCode === 0) return { vm: name, stateAfter: null, error: null };
      return { vm: name, stateAfter: (await ground.kiln.vms.get(id)).state, error: `it ended with ${exitCode}` };
    } catch (error) {
      const { retry, message } = asKilnError(error);
      const vm = await ifKnown(ground.kiln.vms.get(id));
      if (!retry || signal.aborted || vm?.state !== "running") return { vm: name, stateAfter: vm?.state ?? "gone", error: message };
      await sleep(RETRY_MS);
    }
  }
};

const ifKnown = async (vm: Promise<VmView>): Promise<VmView | null> => {
  try {
    return await vm;
  } catch (error) {
    if (error instanceof KilnError && error.code === "VM_NOT_FOUND") return null;
    throw error;
  }
};

const countNonces = async (ground: Ground, vms: readonly VmView[]): Promise<NonceCount> => {
  if (ground.driver === "fake") return readHostNotes(ground);
  const { kiln } = ground;
  await Promise.all(
    vms
      .filter(({ state }) => state === "running")
      .map(async ({ id }) => kiln.operations.wait((await kiln.vms.stop(id, { timeoutMs: 500 })).id)),
  );
  return readGuestNotes(ground, vms);
};

/** By everybody's means; what does not go is a complaint. */
const removeAll = async ({ kiln }: Ground): Promise<string[]> => {
  const attempts = [...(await kiln.vms.list()).map(async ({ id }) => kiln.operations.result(await kiln.vms.remove(id, { force: true })))];
  const images = async (): Promise<void> => {
    for (const { reference } of await kiln.images.list()) await kiln.images.remove(reference);
  };
  const ends = await Promise.allSettled([...attempts, Promise.allSettled(attempts).then(images)]);
  return ends.flatMap((end) => {
    if (end.status === "fulfilled") return [];
    const { code, message } = asKilnError(end.reason);
    return code === "VM_NOT_FOUND" || code === "IMAGE_NOT_FOUND" ? [] : [`at the end something could not be removed: ${code} ${message}`];
  });
};
