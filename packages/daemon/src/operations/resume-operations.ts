import { asKilnError, KilnError, type VmId } from "@kiln/protocol";
import type { Core } from "./core.ts";
import { continueCreate, CREATE_SAGA } from "./create-vm.ts";
import { continuePull, ENSURE_SAGA } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { continueRebuild, REBUILD_SAGA } from "./rebuild-image.ts";
import { continueCustomize, CUSTOMIZE_SAGA } from "./customize-image.ts";
import { continuePromote, PROMOTE_SAGA } from "./promote-image.ts";
import { contentOfRegister, continueRegister, REGISTER_SAGA } from "./register-image.ts";
import { continueRemove, DELETE_SAGA } from "./remove-vm.ts";
import { reportRepair } from "./report-repair.ts";
import { type SagaRecord, sagaPoints } from "./saga/saga.ts";
import { continueScrub, SCRUB_SAGA } from "./scrub.ts";
import { continueStart, START_SAGA } from "./start-vm.ts";
import { continueStop, STOP_SAGA } from "./stop-vm.ts";
import { continueVerify, VERIFY_SAGA } from "./verify-image.ts";
import { continueWarm, WARM_SAGA } from "./warm-kernel.ts";

type Continue = (core: Core, saga: SagaRecord, operation: OperationContext) => Promise<string | null>;

/** How a daemon takes up what another began. */
const CONTINUE: Readonly<Record<string, Continue>> = {
  [CREATE_SAGA.name]: (core, saga, operation) => continueCreate(core, { saga, operation, credentials: {} }),
  [START_SAGA.name]: continueStart,
  [STOP_SAGA.name]: continueStop,
  [DELETE_SAGA.name]: continueRemove,
  [ENSURE_SAGA.name]: (core, saga, operation) => continuePull(core, { saga, operation, credentials: {} }),
  [WARM_SAGA.name]: continueWarm,
  [PROMOTE_SAGA.name]: continuePromote,
  [REGISTER_SAGA.name]: continueRegister,
  [CUSTOMIZE_SAGA.name]: (core, saga, operation) => continueCustomize(core, { saga, operation, credentials: {} }),
  [VERIFY_SAGA.name]: continueVerify,
  [SCRUB_SAGA.name]: continueScrub,
  [REBUILD_SAGA.name]: (core, saga, operation) => continueRebuild(core, { saga, operation, credentials: {} }),
};

/** Every place at which a crash of a saga matters. */
export const SAGA_POINTS: readonly string[] = [
  CREATE_SAGA,
  START_SAGA,
  STOP_SAGA,
  DELETE_SAGA,
  ENSURE_SAGA,
  WARM_SAGA,
  PROMOTE_SAGA,
  REGISTER_SAGA,
  CUSTOMIZE_SAGA,
  VERIFY_SAGA,
  REBUILD_SAGA,
  SCRUB_SAGA,
].flatMap((saga) => sagaPoints(saga as never));

/** A saga that has ended so many daemons is taken back instead. */
const RESUMES = 3;

/** What an earlier daemon left: sagas to go on with, by the operation's id, and VMs that are theirs. */
export interface Interrupted {
  readonly sagas: readonly SagaRecord[];
  readonly operations: ReadonlySet<string>;
  /** VMs that a start or a delete is at: nobody else adopts or undoes them. */
  readonly vms: ReadonlySet<VmId>;
}

export const findInterrupted = (core: Core): Interrupted => {
  const sagas = core.sagas.list();
  // a caller has sent it, and nobody can fetch it again
  for (const content of sagas.map(contentOfRegister)) if (content !== null) core.leases.holdForAWhile(content);
  return {
    sagas,
    operations: new Set(sagas.map(({ operation }) => operation)),
    vms: new Set(sagas.flatMap((record) => ownedVm(core, record) ?? [])),
  };
};

/** A start that still waits for the VM owns nothing: whoever is before it, a stop for one, goes on with the VM as it is. */
const ownedVm = (core: Core, { saga, operation, input }: SagaRecord): VmId | null => {
  if (saga !== START_SAGA.name && saga !== DELETE_SAGA.name) return null;
  const { vm } = input as { vm: VmId };
  return saga === DELETE_SAGA.name || core.vms.get(vm)?.operation === operation ? vm : null;
};

/** An end in order is no crash, and does not count against those that it interrupts. Never throws: a full disk keeps no daemon from ending. */
export const forgiveResumes = (core: Core): void => {
  try {
    for (const record of core.sagas.list()) if (record.resumes > 0) core.sagas.put({ ...record, resumes: 0 });
  } catch (error) {
    core.journal.warn({ error: String(error) }, "an end in order will count as a crash");
  }
};

/**
 * Goes on with every saga in the background, each as the operation that it was: whoever waits for it by its id gets
 * its end. Those that were on their way back are taken back to their start.
 */
export const resumeOperations = (core: Core, { sagas }: Interrupted): void => {
  const active = new Set(core.operations.list({ all: false }).map(({ id }) => id));
  // a start that has begun comes before those that wait for the VM's lock: they find it running then
  const owners = sagas.filter((record) => ownedVm(core, record) !== null);
  for (const found of [...owners, ...sagas.filter((record) => !owners.includes(record))]) {
    const record = tooOften({ ...found, resumes: found.resumes + 1 });
    core.sagas.put(record);
    const work = workOf(core, record);
    core.journal.info({ operation: record.operation, saga: record.saga, backwards: record.failure !== null }, "going on with an operation");
    if (active.has(record.operation)) core.operations.resume(record.operation, work);
    else void takeBackQuietly(core, record, work);
  }
};

const workOf = (core: Core, record: SagaRecord) => {
  const proceed = CONTINUE[record.saga];
  return async (operation: OperationContext): Promise<string | null> => {
    if (proceed === undefined) throw new KilnError("INTERNAL", `there is no saga ${record.saga}`);
    return proceed(core, record, operation);
  };
};

/** What this daemon's own operations left behind when they failed: there was no room to take it back. */
export const takeBackLeft = async (core: Core): Promise<void> => {
  const left = core.sagas.list().filter(({ failure, operation }) => failure !== null && core.operations.findLive(operation) === null);
  for (const record of left) await takeBackQuietly(core, record, workOf(core, record));
};

const tooOften = (record: SagaRecord): SagaRecord => {
  if (record.resumes <= RESUMES || record.failure !== null) return record;
  return { ...record, failure: { code: "INTERRUPTED", detail: `${RESUMES} daemons ended while this ran` } };
};

/** Its operation has failed already, and something was left behind then. */
const takeBackQuietly = async (core: Core, record: SagaRecord, work: (operation: OperationContext) => Promise<unknown>): Promise<void> => {
  const nobody = { id: record.operation as never, caller: "", signal: core.stopping };
  const silent = {
    phase: () => undefined,
    report: () => undefined,
    parts: () => undefined,
    output: () => undefined,
    found: () => undefined,
    position: () => undefined,
  };
  try {
    await work({ ...nobody, ...silent });
  } catch (error) {
    if (core.sagas.list().some(({ operation }) => operation === record.operation)) {
      core.journal.warn({ operation: record.operation, error: asKilnError(error).message }, "a failed operation cannot be taken back yet");
      return;
    }
    const found = `${record.saga} had failed and left something behind`;
    reportRepair(core, { subject: record.operation, id: record.operation, found, did: "it was taken back" });
    core.journal.warn({ operation: record.operation, error: asKilnError(error).message }, "a failed operation was taken back");
  }
};
