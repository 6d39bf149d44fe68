/** The oracles of chaos: from what was seen to what is not as it has to be. Pure; each has a test that makes it complain. */
import type { KilnEvent, OperationState } from "@kiln/protocol";
import { ERROR_TABLE, type ErrorCode } from "@kiln/protocol/errors";
import type { FaultKind } from "./plan.ts";

/** A command that was to run in a guest and to write its nonce down there. */
export interface NonceRun {
  readonly nonce: string;
  readonly what: string;
  /** The client was told that it ended with 0. */
  acknowledged: boolean;
  /** How often it may have run: once, and for a VM's own command once for each start. */
  readonly most: () => number;
  /** What a client read of it; null where none read it to its end. */
  said: string | null;
}

/** A nonce that was acknowledged is there, and none is there more often than it was asked for. `counts`: null where it cannot be read. */
export const judgeNonces = (runs: readonly NonceRun[], count: (nonce: string) => number | null): string[] =>
  runs.flatMap(({ nonce, what, acknowledged, most, said }) => {
    const ran = count(nonce);
    return [
      ...(ran !== null && ran > most() ? [`${what}: it ran ${ran} times instead of ${most()}`] : []),
      ...(ran === 0 && acknowledged ? [`${what}: it was acknowledged and has not run`] : []),
      ...(said === null || said === `${nonce}\n` ? [] : [`${what}: it said ${JSON.stringify(said)} instead of ${nonce}`]),
    ];
  });

export interface Failure {
  readonly what: string;
  /** null: it was no KilnError. */
  readonly code: string | null;
  readonly message: string;
  /** How a process ended, and the one it should have ended with; null where it was none. */
  readonly exit: { readonly code: number; readonly wanted: (tableCode: number) => number } | null;
}

/** With commands that meet: somebody else has removed, started, renamed or cancelled what one works on. */
const OF_COMPANY: readonly ErrorCode[] = [
  ...(["VM_NOT_FOUND", "VM_NAME_TAKEN", "VM_NOT_RUNNING", "VM_RUNNING", "VM_STATE_CONFLICT", "VM_DIED"] as const),
  ...(["IMAGE_NOT_FOUND", "IMAGE_IN_USE", "IMAGE_NAME_CONFLICT", "PORT_IN_USE", "PORT_NOT_FOUND"] as const),
  ...(["CANCELLED", "OPERATION_NOT_FOUND", "EXEC_NOT_FOUND", "CAPACITY_EXCEEDED", "QUEUE_FULL"] as const),
];
/** A client may also crash guests and hang up on agents. */
const OF_GUESTS: readonly ErrorCode[] = ["GUEST_AGENT_PROTOCOL", "GUEST_AGENT_TIMEOUT", "VM_BOOT_FAILED"];
const OF_THE_DAEMON: readonly ErrorCode[] = ["DAEMON_UNREACHABLE", "INTERRUPTED"];
const OF_VMMS: readonly ErrorCode[] = ["VMM_FAILED"];

/** Errors that a fault may cause, beyond those that the commands cause each other. */
const OF_FAULTS: Readonly<Record<FaultKind, readonly ErrorCode[]>> = {
  "kill-daemon": OF_THE_DAEMON,
  "stop-daemon": OF_THE_DAEMON,
  "kill-vmm": OF_VMMS,
  "freeze-vmm": OF_VMMS,
  // a daemon that comes back to a full disk is started again with room
  "fill-disk": ["DISK_FULL", ...OF_THE_DAEMON],
  registry: [
    ...(["REGISTRY_UNREACHABLE", "REGISTRY_RATE_LIMITED", "REGISTRY_FAILED", "IMAGE_INVALID"] as const),
    ...(["CONTENT_DIGEST_MISMATCH", "CONTENT_SIZE_MISMATCH"] as const),
  ],
};

/** Every failure has a code of the table that the faults explain, and a process ends with the code's exit code. */
export const judgeFailures = (failures: readonly Failure[], faults: Iterable<FaultKind>): string[] => {
  const expected = new Set<string>([...OF_COMPANY, ...OF_GUESTS, ...[...faults].flatMap((fault) => OF_FAULTS[fault])]);
  return failures.flatMap(({ what, code, message, exit }) => {
    if (code === null || !isCode(code)) return [`${what}: an untyped failure: ${message}`];
    if (!expected.has(code)) return [`${what}: ${code}, which nothing explains: ${message}`];
    const wanted = exit?.wanted(ERROR_TABLE[code].exitCode);
    return exit?.code === wanted ? [] : [`${what}: ${code} ends with exit code ${exit?.code} instead of ${wanted}`];
  });
};

/** `kiln exec` ends with 125 where the command was not reached, but for what says more (docs/errors.md). */
export const exitOfExec = (tableCode: number): number => ([126, 127, 130].includes(tableCode) ? tableCode : 125);
export const exitOfOthers = (tableCode: number): number => tableCode;

const isCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_TABLE, code);

const ENDS: ReadonlyMap<string, OperationState> = new Map([
  ["operation.succeeded", "succeeded"],
  ["operation.failed", "failed"],
  ["operation.cancelled", "cancelled"],
]);

/** Cursors count up; what was begun has ended once; nothing happens to a VM that is gone. */
export const judgeJournal = (events: readonly KilnEvent[]): string[] => {
  const complaints: string[] = [];
  const open = new Map<string, string>();
  const ended = new Map<string, string>();
  const removed = new Set<string>();
  let last = 0;
  for (const { seq, type, subject, data } of events) {
    if (seq <= last) complaints.push(`the event ${seq} comes after ${last}`);
    last = seq;
    const id = String(data["id"]);
    if (type === "operation.begun") open.set(id, `${String(data["kind"])} of ${subject}`);
    if (ENDS.has(type)) {
      const twice = ended.get(id);
      if (twice !== undefined) complaints.push(`the operation ${id} of ${subject} has ended twice: ${twice}, ${type}`);
      else if (!open.has(id)) complaints.push(`the operation ${id} of ${subject} has ended and was never begun`);
      ended.set(id, type);
      open.delete(id);
    }
    if (type.startsWith("vm.") && removed.has(id)) complaints.push(`${type} of ${subject}, which was removed`);
    if (type === "vm.removed") removed.add(id);
  }
  return [...complaints, ...[...open].map(([id, what]) => `the operation ${id}, ${what}, has begun and not ended`)];
};

/** What a client was told of an operation's end. */
export interface ToldEnd {
  readonly id: string;
  readonly what: string;
  readonly state: OperationState;
}

/** What a client was told is what the journal says, whatever became of the daemon that told it. */
export const judgeTold = (told: readonly ToldEnd[], events: readonly KilnEvent[]): string[] => {
  const ends = new Map(events.flatMap(({ type, data }) => (ENDS.has(type) ? [[String(data["id"]), ENDS.get(type)] as const] : [])));
  return told.flatMap(({ id, what, state }) => {
    const end = ends.get(id);
    return end === state ? [] : [`${what}: the client was told that ${id} has ${state}, and the journal says ${end ?? "nothing"}`];
  });
};

/** A VM whose creation was acknowledged is there until somebody removes it. */
export const judgeKept = (
  created: ReadonlyMap<string, string>,
  { present, removed }: { readonly present: ReadonlySet<string>; readonly removed: ReadonlySet<string> },
): string[] =>
  [...created].flatMap(([id, name]) => (present.has(id) || removed.has(id) ? [] : [`the VM ${name} (${id}) was created, and is lost`]));

/** `running` implies that exec answers. */
export interface Answer {
  readonly vm: string;
  /** Its state after a command that did not answer; null where it did. */
  readonly stateAfter: string | null;
  readonly error: string | null;
}

export const judgeAnswers = (answers: readonly Answer[]): string[] =>
  answers.flatMap(({ vm, stateAfter, error }) =>
    stateAfter === "running" ? [`the VM ${vm} is running and answers no command: ${error ?? "it said something else"}`] : [],
  );
