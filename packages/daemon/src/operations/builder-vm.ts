import { asKilnError, DEFAULTS, KilnError, type VmId } from "@kiln/protocol";
import { randomHex } from "@kiln/std";
import { resolveCommand } from "../images/command.ts";
import type { ImageRecord, RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import type { WorkContext } from "../pipeline/work.port.ts";
import { NO_RUN } from "../vms/record.ts";
import { type Core, nowIso } from "./core.ts";
import { MACHINE_ID_BYTES, VM_ID_BYTES } from "./create-vm.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { NO_CALLER, type OperationContext } from "./operation.ts";
import type { OutputTail } from "./output-tail.ts";
import { removeVm } from "./remove-vm.ts";
import { startBuilder } from "./start-vm.ts";
import { stopNow } from "./stop-vm.ts";
import { type CommandStream, execInVm } from "./stream-vm.ts";
import { mintMac } from "./vm-network.ts";

/** In what commands run. */
export interface BuilderSpec {
  /** For people: what is made. */
  readonly subject: string;
  readonly base: ImageRecord;
  readonly rootfs: RootfsRecord;
  readonly kernel: KernelRecord;
  readonly network: "user" | "none";
  readonly cpus: number;
  readonly memoryBytes: number;
}

export interface BuilderCommand {
  readonly text: string;
  /** For people: "2 of 3". */
  readonly place: string;
  readonly env: readonly string[];
  readonly workingDir: string | null;
  readonly user: string | null;
}

/**
 * A VM that the daemon makes for work of its own: counted where VMs are counted, in no list that people are shown.
 * Disposed of, it is gone; the next daemon removes those of one that died.
 */
export class BuilderVm implements AsyncDisposable {
  readonly id: VmId;
  readonly name: string;
  readonly #core: Core;
  readonly #spec: BuilderSpec;
  readonly #operation: OperationContext;

  private constructor(core: Core, spec: BuilderSpec, context: WorkContext) {
    this.#core = core;
    this.#spec = spec;
    this.id = randomHex(core.random, VM_ID_BYTES) as VmId;
    this.name = `builder-${this.id}`;
    this.#operation = ownOperation(context);
  }

  /** Boots it. Throws what a create and a start throw; then there is none. */
  static async start(core: Core, spec: BuilderSpec, context: WorkContext): Promise<BuilderVm> {
    await using undo = new AsyncDisposableStack();
    const vm = undo.use(new BuilderVm(core, spec, context));
    vm.#reserve();
    await startBuilder(core, vm.id, vm.#operation);
    undo.move();
    return vm;
  }

  #reserve(): void {
    const { id, name } = this;
    const { base, rootfs, kernel, network, cpus, memoryBytes } = this.#spec;
    const core = this.#core;
    const { env, workingDir, user } = resolveCommand(base.image.config, NO_COMMAND);
    core.vms.reserve(
      {
        ...{ id, name, hostname: name, machineId: randomHex(core.random, MACHINE_ID_BYTES), state: "created", isBuilder: true },
        ...{
          labels: {},
          autoRemove: false,
          command: null,
          env: [...env],
          workingDir,
          user,
          stopSignal: "SIGTERM",
          tty: null,
          stdin: false,
        },
        ...{
          startMode: "auto",
          cpus,
          memoryBytes,
          diskBytes: DEFAULTS.diskBytes,
          createdAt: nowIso(core),
          ports: [],
          driver: core.driver.name,
        },
        ...{ image: base.reference, imageDigest: base.image.manifestDigest, rootfsKey: rootfs.key, rootfsDigest: rootfs.digest },
        ...{ kernelKey: kernel.key, kernelName: kernel.name },
        network: { mode: network, mac: network === "none" ? null : mintMac(core) },
        ...{ epoch: 0, bootId: null, ...NO_RUN, operation: null },
      },
      core.capacity,
    );
  }

  /** Runs a command by the image's shell to its end. Throws CUSTOMIZE_FAILED where it fails, VM_DIED where its VM does. */
  async run(command: BuilderCommand, tail: OutputTail): Promise<void> {
    const { signal } = this.#operation;
    try {
      const stream = await this.#begin(command);
      const ended = await this.#follow(stream, tail);
      if (ended === 0) return;
      throw failed(command, this.#spec.subject, { how: typeof ended === "number" ? `ended with ${ended}` : `was ended by ${ended}`, tail });
    } catch (error) {
      signal.throwIfAborted();
      throw await this.#explain(command, error);
    }
  }

  async #begin({ text, env, workingDir, user }: BuilderCommand): Promise<CommandStream> {
    const { signal } = this.#operation;
    const refused: unknown[] = [];
    for (const shell of SHELLS) {
      const id = randomHex(this.#core.random, VM_ID_BYTES);
      const how = { epoch: null, env: [...env], workingDir, user, tty: null, stdin: false, overflow: "block" as const };
      try {
        return await execInVm(this.#core, this.id, { request: { id, command: [...shell, "-c", text], ...how }, signal });
      } catch (error) {
        if (!(error instanceof KilnError && error.code === "COMMAND_NOT_FOUND")) throw error;
        refused.push(error);
      }
    }
    throw refused[0];
  }

  async #follow(stream: CommandStream, tail: OutputTail): Promise<number | string> {
    const { signal } = this.#operation;
    let delivered = false;
    try {
      for await (const { stream: which, offset, bytes } of stream.output) {
        if (which === "stdin") continue;
        tail.append(which, bytes, { signal });
        stream.acknowledge(which, offset + bytes.length);
      }
      const exit = await stream.exit;
      delivered = true;
      return exit.exitCode ?? exit.signal ?? "an unknown signal";
    } finally {
      tail.end();
      await stream.leave(delivered);
    }
  }

  /** A VM that has died is the reason of whatever else failed. */
  async #explain(command: BuilderCommand, error: unknown): Promise<unknown> {
    if (error instanceof KilnError && error.code === "CUSTOMIZE_FAILED") return error;
    const run = this.#core.running.get(this.id);
    const patience = new AbortController();
    const late = this.#core.clock.sleep(OPERATION_LIMITS.builderEndMs, { signal: patience.signal }).then(
      () => false,
      () => false,
    );
    const hasEnded = run === null || (await Promise.race([run.finished.promise.then(() => true), late]));
    patience.abort();
    if (!hasEnded) return error;
    return new KilnError("VM_DIED", `the VM in which ${this.#spec.subject} was made ended while command ${command.place} ran`, {
      ...{ cause: error, object: this.#spec.subject, hint: "run the command again; more --memory may help" },
    });
  }

  /** Writes all that the guest holds to its disk, and ends it (I25). */
  async stop(): Promise<void> {
    const core = this.#core;
    const { signal } = this.#operation;
    using _lock = await core.vmLocks.acquire(this.id, { signal });
    const run = core.running.get(this.id);
    if (run === null) throw new KilnError("VM_DIED", `the VM in which ${this.#spec.subject} was made ended before it was stopped`);
    // said by the guest: one that is then too slow to power off may be killed
    await run.session.sync({ signal });
    await stopNow({ core, id: this.id, timeoutMs: OPERATION_LIMITS.builderEndMs, operation: this.#operation });
    const record = core.vms.get(this.id);
    if (record?.state !== "exited")
      throw new KilnError("VM_DIED", `the VM in which ${this.#spec.subject} was made ended badly`, {
        ...{ object: this.#spec.subject, cause: record?.error === null ? undefined : new Error(record?.error.detail) },
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await removeVm(this.#core, this.id, { force: true });
    } catch (error) {
      // its record is there: the next daemon tries again
      this.#core.journal.error({ vm: this.id, error: asKilnError(error).message }, "a builder VM could not be removed");
    }
  }
}

/** Images of a busybox alone have no other. */
const SHELLS: readonly (readonly string[])[] = [["/bin/sh"], ["/bin/busybox", "sh"]];

const NO_COMMAND = { command: null, entrypoint: null, env: [], workingDir: null, user: null, idle: true } as const;

/** The start reports to the work that it is for. */
const ownOperation = ({ operation, signal, phase, report, parts, output }: WorkContext): OperationContext => ({
  ...{ id: operation, caller: NO_CALLER, signal, phase, report: (progress) => (progress === null ? undefined : report(progress)) },
  ...{ parts, output, found: () => undefined, position: () => undefined },
});

const failed = (
  { text, place }: BuilderCommand,
  subject: string,
  { how, tail }: { readonly how: string; readonly tail: OutputTail },
): KilnError => {
  const shown = text.length > OPERATION_LIMITS.shownCommand ? `${text.slice(0, OPERATION_LIMITS.shownCommand)}…` : text;
  const last = tail.tail.slice(-OPERATION_LIMITS.failedOutputLines);
  return new KilnError("CUSTOMIZE_FAILED", `command ${place} for ${subject} ${how}: ${shown}`, {
    ...{ object: subject, cause: last.length === 0 ? undefined : new Error(last.join("\n")) },
  });
};
