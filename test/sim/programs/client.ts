import { createVmRequest, KilnError, type OperationView, parseProblem, pullImageRequest, type VmId } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { beginCreateVm } from "../../../packages/daemon/src/operations/create-vm.ts";
import { beginPullImage } from "../../../packages/daemon/src/operations/images.ts";
import { beginRebuildImage } from "../../../packages/daemon/src/operations/rebuild-image.ts";
import { beginRemoveVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import { beginStopVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import { beginVerifyImage } from "../../../packages/daemon/src/operations/verify-image.ts";
import { LIVE_STATES } from "../../../packages/daemon/src/vms/record.ts";
import { askAtOnce } from "./at-once.ts";
import { allowedCodes } from "./expected.ts";
import { GONE, type House } from "./house.ts";
import type { Oracle } from "./oracle.ts";
import type { Command, Program } from "./program.ts";
import { Violation } from "./violation.ts";

export const MIB = 2 ** 20;
/** Of the smallest kind of VM. */
export const VM_BYTES = 128 * MIB;

/** Of virtual time; nothing but a queue takes that long. */
const PATIENCE_MS = 2 * 3_600_000;
/** So often somebody before may have waited as long. */
const TURNS_MOST = 6;
const LATE = new Error("hours have passed");

/** Commands that begin an operation. */
type Begun = Extract<Command, { readonly wait: boolean }>;

const isBegun = (command: Command): command is Begun => "wait" in command;

/** An operation that this client did not wait for. */
interface Pending {
  readonly command: Begun;
  readonly id: string;
  readonly before: Before;
}

/** What was so in the turn in which the operation began. */
interface Before {
  /** Whether this client's request has begun it, and not an earlier one with its key. */
  readonly isOwn: boolean;
  readonly vm: { readonly id: VmId; readonly epoch: number; readonly wasLive: boolean } | null;
}

/** What a client does with one daemon after the other, as the real one: an operation goes on under its id. */
export class Client {
  readonly #name: string;
  readonly #house: House;
  readonly #oracle: Oracle;
  readonly #program: Program;
  readonly #pending: Pending[] = [];
  #requests = 0;

  constructor(name: string, parts: { house: House; oracle: Oracle; program: Program }) {
    this.#name = name;
    this.#house = parts.house;
    this.#oracle = parts.oracle;
    this.#program = parts.program;
  }

  async run(commands: readonly Command[]): Promise<void> {
    for (const command of commands) await this.#run(command);
    for (const pending of this.#pending) await this.#tolerating(pending.command, () => this.#awaitEnd(pending));
  }

  async #run(command: Command): Promise<void> {
    await this.#tolerating(command, async () => {
      if (command.do === "idle") await this.#house.later(command.steps);
      else if (command.do === "cancel") await this.#cancel();
      else if (isBegun(command)) await this.#operate(command);
      else await askAtOnce(command, { house: this.#house, oracle: this.#oracle });
    });
  }

  /** Every failure has a type, and one that the command may have. */
  async #tolerating(command: Command, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof Violation) throw error;
      const words = `${this.#name}: ${JSON.stringify(command)}`;
      if (!(error instanceof KilnError))
        throw new Violation("untyped", `${words} failed with no KilnError: ${String(error)}`, { cause: error });
      this.#oracle.failure(error, allowedCodes(command.do, this.#program, this.#house.crashes), words);
    }
  }

  async #operate(command: Begun): Promise<void> {
    this.#requests += 1;
    // every client of Kiln's sends one, so that it may ask again
    const key = command.key ?? `${this.#name}-${this.#requests}`;
    for (;;) {
      let before: Before = { isOwn: false, vm: null };
      const answer = await this.#house.ask((core) => {
        before = { isOwn: !core.operations.hasKey(key), vm: "vm" in command ? vmBefore(core, command.vm) : null };
        const begun = begin(command, core, key);
        if (begun.kind === "vm.delete") this.#oracle.mayGo(begun.key as VmId);
        return begun;
      });
      if (answer === GONE) continue;
      const pending = { command, id: answer.id, before };
      if (command.wait) await this.#awaitEnd(pending);
      else this.#pending.push(pending);
      return;
    }
  }

  async #awaitEnd(pending: Pending): Promise<void> {
    for (let turns = 1; ; turns += 1) {
      const view = await this.#waitFor(pending.id);
      if (view === null) return;
      if (view.finishedAt !== null) return this.#ended(pending, view);
      const words = `${view.kind} ${view.subject} is ${view.state} in ${view.phase} for hours`;
      if (turns === TURNS_MOST) throw new Violation("no-end", words);
      // others hold the memory that it waits for, and nobody is going to stop them
      if (view.state === "queued") await this.#house.ask((core) => core.operations.cancel(pending.id));
    }
  }

  /** As it is when it has ended, or hours later; null where a power failure has taken it back. */
  async #waitFor(id: string): Promise<OperationView | null> {
    const patience = new AbortController();
    const late = this.#house.scheduler.clockOf().sleep(PATIENCE_MS, { signal: patience.signal });
    late.then(
      () => patience.abort(LATE),
      () => undefined,
    );
    try {
      for (;;) {
        const view = await this.#house.ask((core) => core.operations.wait(id, { signal: patience.signal }));
        if (view !== GONE) return view;
      }
    } catch (error) {
      if (error === LATE) return requireView(await this.#house.ask((core) => core.operations.get(id)));
      // what was begun right before a power failure may be unknown
      if (error instanceof KilnError && error.code === "OPERATION_NOT_FOUND" && this.#house.outages > 0) return null;
      throw error;
    } finally {
      patience.abort();
    }
  }

  #ended({ command, before }: Pending, view: OperationView): void {
    if (view.state !== "succeeded") throw parseProblem({ ...view.error, object: view.subject, operation: view.id });
    const { core } = this.#house;
    if (command.do === "create" && view.result !== null) this.#oracle.created(view.result as VmId, command);
    if (command.do === "rm") this.#oracle.removed(view.key as VmId);
    if (command.do === "stop" && core !== null && before.isOwn && before.vm?.wasLive === true) requireStopped(core, before.vm);
  }

  async #cancel(): Promise<void> {
    const newest = this.#pending.at(-1);
    if (newest === undefined) return;
    await this.#house.ask((core) => core.operations.cancel(newest.id));
  }
}

const requireView = (view: OperationView | typeof GONE): OperationView => {
  if (view === GONE) throw new Violation("no-end", "the daemon ended while an operation was looked at");
  return view;
};

const vmBefore = (core: Core, vm: string): Before["vm"] => {
  const record = core.vms.find(vm);
  return record === null ? null : { id: record.id, epoch: record.epoch, wasLive: record.state === "running" || record.state === "paused" };
};

/** The run of then is over; it may have been started again. */
const requireStopped = (core: Core, { id, epoch }: { id: VmId; epoch: number }): void => {
  const now = core.vms.get(id);
  if (now === null || now.epoch > epoch || !LIVE_STATES.has(now.state)) return;
  throw new Violation("stopped-has-ended", `the VM ${now.name} was stopped and is ${now.state} in the same epoch`);
};

const begin = (command: Begun, core: Core, idempotencyKey: string): OperationView => {
  const facts = { idempotencyKey, credentials: {}, caller: "" };
  switch (command.do) {
    case "create":
      return beginCreateVm(core, toRequest(command), facts);
    case "start":
      return beginStartVm(core, command.vm, facts);
    case "stop":
      return beginStopVm(core, command.vm, { ...facts, timeoutMs: command.timeoutMs });
    case "rm":
      return beginRemoveVm(core, command.vm, { ...facts, force: command.force });
    case "pull":
      return beginPullImage(core, pullImageRequest.parse({ reference: command.image, pull: command.pull }), facts);
    case "verify":
      return beginVerifyImage(core, { reference: command.image }, facts);
    case "rebuild":
      return beginRebuildImage(core, { reference: command.image, plainHttp: false }, facts);
  }
};

const toRequest = (command: Extract<Command, { do: "create" }>) => {
  const { name, image, pull, start, seconds, autoRemove, size, hostPort, network } = command;
  return createVmRequest.parse({
    ...{ name, image, pull, start, autoRemove, network },
    ...(seconds === null ? { idle: true } : { command: ["sleep", String(seconds)] }),
    ...{ cpus: size, memoryBytes: size * VM_BYTES },
    ports: hostPort === null ? [] : [{ hostPort, guestPort: 80 }],
  });
};
