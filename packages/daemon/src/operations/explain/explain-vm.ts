import type { Explanation, OperationView } from "@kiln/protocol";
import { LIVE_STATES, type VmRecord } from "../../vms/record.ts";
import type { Core } from "../core.ts";
import { eventsOf, historyOf, joinedOf, type Part, waitsOf, withDescendants } from "./history.ts";

export const explainVm = (core: Core, vm: VmRecord): Explanation => {
  const history = historyOf(core);
  const own = history.all.filter(({ key }) => key === vm.id);
  const operations = withDescendants(history, own);
  const events = eventsOf(core, [vm.id, ...own.map(({ id }) => id)]);
  const waits = waitsOf(history, operations, events);
  const joined = joinedOf(history, operations);
  const failed = own.find((one) => one.state === "failed");
  const isIdle = own.every(({ finishedAt }) => finishedAt !== null);
  return {
    ...{ kind: "vm", id: vm.id, name: vm.name, state: vm.state },
    summary: [
      describeState(vm, { nowMs: history.nowMs, isIdle }),
      ...describeWork(own, { waits, joined }),
      ...(isIdle ? describeRoom(core, vm) : []),
      describeDisk(vm, own),
    ],
    error: errorOf(vm, failed),
    ...{ waits, joined, capacity: capacityFor(core, vm), heldBy: [], operations },
    events: [...events],
  };
};

/** The operation's error says more than the record's. */
const errorOf = ({ state, error }: VmRecord, failed: OperationView | undefined): Part<"error"> => {
  if (error === null) return state === "created" ? (failed?.error ?? null) : null;
  return failed?.error?.detail === error.detail ? failed.error : { ...error, hint: "", causes: [] };
};

const describeState = (vm: VmRecord, { nowMs, isIdle }: { nowMs: number; isIdle: boolean }): string => {
  const { state, name, error, startedAt, finishedAt, exitCode, signal, epoch } = vm;
  if (state === "failed") return `${name} failed: ${error?.detail ?? "nobody knows why"}.`;
  if (state === "exited") return `${name} ended ${signal === null ? `with exit code ${exitCode}` : `by ${signal}`} at ${finishedAt}.`;
  if (state === "running" && startedAt !== null) {
    return `${name} has run for ${Math.round((nowMs - Date.parse(startedAt)) / 1000)} s, in its ${ordinal(epoch)} boot.`;
  }
  if (state === "created") return `${name} is there and ${isIdle ? "was not started" : "does not run yet"}.`;
  return `${name} is ${state}.`;
};

const ordinal = (count: number): string =>
  `${count}${{ 1: "st", 2: "nd", 3: "rd" }[count % 100 > 10 && count % 100 < 14 ? 0 : count % 10] ?? "th"}`;

/** What is under way, and what it waits for. */
export const describeWork = (own: readonly OperationView[], { waits, joined }: Pick<Explanation, "waits" | "joined">): string[] => {
  const active = own.filter(({ finishedAt }) => finishedAt === null);
  return active.flatMap((operation) => {
    const wait = waits.find((one) => one.operation.id === operation.id && one.state === "waiting");
    const what = `${operation.kind} (${operation.id})`;
    const line =
      wait === undefined
        ? `${what} is at ${operation.phase ?? "its beginning"}.`
        : `${what} waits for ${wait.for === "boot" ? "a core to boot on" : "memory and CPUs"}, ${(operation.position ?? 1) - 1} in front of it${wait.ms === null ? "" : `, for ${wait.ms} ms`}.`;
    const shared = joined.filter(({ state }) => state === "waiting").map(({ work, by }) => describeShared(work, by));
    return [line, ...new Set(shared)];
  });
};

const describeShared = (work: { id: string; kind: string; subject: string }, by: { kind: string; subject: string } | null): string =>
  `It waits for ${work.kind} of ${work.subject} (${work.id})${by === null ? "" : `, which was begun for ${by.kind} of ${by.subject}`}.`;

/** Said of those that hold nothing: whether they could run now. */
const describeRoom = (core: Core, vm: VmRecord): string[] => {
  if (LIVE_STATES.has(vm.state) || vm.state === "deleting") return [];
  const { memoryBytes, cpus } = capacityFor(core, vm);
  const short = [
    ...(vm.memoryBytes > memoryBytes.total - memoryBytes.reserved
      ? [`${mebibytes(memoryBytes.total - memoryBytes.reserved)} of memory`]
      : []),
    ...(vm.cpus > cpus.total - cpus.reserved ? [count(cpus.total - cpus.reserved, "CPU")] : []),
  ];
  if (short.length === 0) return [];
  return [`A start would wait: it needs ${mebibytes(vm.memoryBytes)} and ${count(vm.cpus, "CPU")}, and ${short.join(" and ")} are free.`];
};

const describeDisk = (vm: VmRecord, own: readonly OperationView[]): string => {
  const removal = own.find(({ kind }) => kind === "vm.delete");
  if (removal?.state === "failed") return `Its disk is there because its removal failed: ${removal.error?.detail}`;
  if (vm.state === "deleting") return "Its disk goes with its removal, which is under way.";
  if (LIVE_STATES.has(vm.state)) return `Its disk may grow to ${mebibytes(vm.diskBytes)}, and stays as long as it.`;
  return `Its disk stays until it is removed: \`kiln rm ${vm.name}\`${vm.state === "created" ? "" : ", or `kiln prune`"}.`;
};

const count = (many: number, word: string): string => `${many} ${word}${many === 1 ? "" : "s"}`;

const mebibytes = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;

export const capacityFor = (core: Core, vm: VmRecord | null): NonNullable<Part<"capacity">> => {
  const reserved = core.vms.reserved();
  const { memoryBytes, cpus, diskBytes } = core.capacity;
  return {
    memoryBytes: { total: memoryBytes, reserved: reserved.memoryBytes, wanted: vm?.memoryBytes ?? null },
    cpus: { total: cpus, reserved: reserved.cpus, wanted: vm?.cpus ?? null },
    diskBytes: { total: diskBytes, reserved: reserved.diskBytes, wanted: vm?.diskBytes ?? null },
    waiting: core.admission.waiting,
  };
};
