import { createHash } from "node:crypto";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { removeImage } from "../../../packages/daemon/src/operations/images.ts";
import { beginRemoveVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import type { VmRecord } from "../../../packages/daemon/src/vms/record.ts";
import { runExec } from "./at-once.ts";
import { GONE, type House } from "./house.ts";
import type { Oracle } from "./oracle.ts";
import { Violation } from "./violation.ts";

const RESTING: ReadonlySet<VmRecord["state"]> = new Set(["created", "running", "paused", "exited", "failed"]);
/** Longer than a slow step: what has ended is seen by then. */
const FIRST_MS = 5_000;
/** Each look is so much later than the one before. */
const LATER = 1.5;
/** Everything in Kiln that waits gives up before. */
const PATIENCE_MS = 3_600_000;
const EXEC_MS = 30_000;
const LINGER_MS = 11 * 60_000;
const never = new AbortController().signal;

/** The end of a program: nothing goes wrong any more, all that was begun ends, all that is there works, and all of it can be removed. */
export const settle = async (house: House, oracle: Oracle): Promise<void> => {
  house.isSettling = true;
  house.world.settle();
  house.world.disk.room = Infinity;
  if (house.core === null) await house.start();
  await atRest(house);
  oracle.lookAtOperations(requireCore(house));
  requireGuests(house);
  for (const { name, id } of requireCore(house)
    .vms.list()
    .filter(({ state }) => state === "running"))
    await requireAnswer(house, { name, id });
  await atRest(house);
  requireWholeFiles(house);
  await removeAll(house, oracle);
  await atRest(house);
  requireGuests(house);
  // what failed pulls have fetched is kept for that long
  if (house.world.leftovers().length > 0) await house.scheduler.clockOf().sleep(LINGER_MS, { signal: never });
  const leftovers = house.world.leftovers();
  if (leftovers.length > 0) throw new Violation("leftovers", `all was removed, and this is left: ${leftovers.join("; ")}`);
  await house.stop();
};

const requireCore = ({ core }: House): Core => {
  if (core === null) throw new Violation("daemon", "no daemon runs at the end");
  return core;
};

/** What is held only while something is under way, and that. */
const underWay = (core: Core): string[] => {
  const held = {
    leases: core.leases.active,
    "VMs' locks": core.vmLocks.size,
    boots: core.boots.active,
    "waiting for a boot": core.boots.waiting,
    "waiting for memory": core.admission.waiting,
    sagas: core.sagas.list().length,
  };
  return [
    ...core.operations.list({ all: false }).map(({ kind, subject, state, phase }) => `${kind} ${subject} ${state} in ${phase}`),
    ...core.vms.list().flatMap(({ name, state }) => (RESTING.has(state) ? [] : [`the VM ${name} is ${state}`])),
    ...Object.entries(held).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`])),
  ];
};

/** Virtual time passes until nothing is under way. */
const atRest = async (house: House): Promise<void> => {
  const core = requireCore(house);
  let pauseMs = FIRST_MS;
  do {
    if (pauseMs >= PATIENCE_MS) throw new Violation("no-end", `after an hour this is under way: ${underWay(core).join("; ")}`);
    await house.scheduler.clockOf().sleep(pauseMs, { signal: never });
    // whoever asked has gone, and nobody stops the VMs whose memory it waits for
    for (const { id, state } of core.operations.list({ all: false })) if (state === "queued") core.operations.cancel(id);
    pauseMs *= LATER;
  } while (underWay(core).length > 0);
};

/** What is said to run runs, and nothing else does. */
const requireGuests = (house: House): void => {
  for (const record of requireCore(house).vms.list()) requireGuest(house, record);
};

const requireGuest = (house: House, { id, name, state, vmm }: VmRecord): void => {
  const guests = [...house.world.host.machines].filter(({ spec }) => spec.id === id || spec.directory === vmm?.directory);
  const wanted = state === "running" || state === "paused" ? 1 : 0;
  if (guests.length !== wanted) throw new Violation("state-is-true", `the VM ${name} is ${state} and has ${guests.length} guests`);
  const isFollowed = requireCore(house).running.get(id) !== null;
  if (isFollowed !== (wanted === 1))
    throw new Violation("run-is-followed", `the VM ${name} is ${state}, and is ${isFollowed ? "" : "not "}followed`);
};

/** `running` means that a command runs in it. */
const requireAnswer = async (house: House, { name, id }: Pick<VmRecord, "name" | "id">): Promise<void> => {
  const patience = new AbortController();
  const late = house.scheduler.clockOf().sleep(EXEC_MS, { signal: patience.signal });
  const asked = house
    .ask((core) => runExec(core, { vm: id, nonce: `last-${id}`, seconds: 0 }, never))
    .catch((error: unknown) => {
      // its own command may have ended meanwhile
      if (house.core?.vms.get(id)?.state === "running")
        throw new Violation("running-answers", `the VM ${name} runs, and an exec fails: ${String(error)}`, { cause: error });
    });
  const timely = await Promise.race([
    asked.then(() => true),
    late.then(
      () => false,
      () => true,
    ),
  ]);
  patience.abort();
  if (!timely && house.core?.vms.get(id)?.state === "running")
    throw new Violation("running-answers", `the VM ${name} runs, and no exec is answered`);
};

/** What a record says is published has the bytes that it had then, unless somebody has damaged it. */
const requireWholeFiles = (house: House): void => {
  const core = requireCore(house);
  for (const { key, digest } of core.images.listRootfs()) {
    const path = core.rootfsFiles.path(key);
    const bytes = house.world.disk.peek(path);
    if (house.damaged.has(path)) continue;
    // the end of a record may be what a power failure has taken back; the next use notices that its file is gone (I7)
    if (bytes === null && house.outages > 0) continue;
    const found = bytes === null ? "missing" : `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    if (found !== digest) throw new Violation("published-is-whole", `the rootfs ${key} was published as ${digest} and is ${found}`);
  }
};

const removeAll = async (house: House, oracle: Oracle): Promise<void> => {
  const core = requireCore(house);
  for (const { id } of core.vms.list()) {
    oracle.mayGo(id);
    const begun = beginRemoveVm(core, id, { force: true, idempotencyKey: null, caller: "" });
    const ended = await house.ask(() => core.operations.wait(begun.id, { signal: never }));
    if (ended !== GONE && ended.state !== "succeeded")
      throw new Violation("rm-works", `the VM ${id} cannot be removed: ${ended.error?.detail}`);
  }
  for (const { reference } of core.images.listImages()) await removeImage(core, reference);
};
