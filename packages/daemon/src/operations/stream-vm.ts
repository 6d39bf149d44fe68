import { type Exec, type GuestOfExec, KilnError, type StreamKind } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import type { AgentSession, ExecAttachment, GuestExec } from "../vms/agent.port.ts";
import type { Core } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { MAIN_EXEC, type RunningVm } from "./running-vms.ts";

export interface StreamChunk {
  readonly stream: StreamKind;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface StreamExit {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly oomKilled: boolean;
}

/** One client's view of a command in a guest. */
export interface CommandStream {
  /** Output in order, then it ends; `exit` is known by then. */
  readonly output: AsyncIterable<StreamChunk>;
  readonly exit: Promise<StreamExit>;
  /** Bytes of stdin that the guest had when this client came; null where clients share it. */
  readonly stdinOffset: number | null;
  acknowledge(stream: "stdout" | "stderr", offset: number): void;
  writeStdin(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<void>;
  closeStdin(): Promise<void>;
  resize(size: { rows: number; cols: number }): Promise<void>;
  sendSignal(name: string): Promise<void>;
  /** The client has gone; what it ran runs on. `delivered`: it knows of the exit. */
  leave(delivered: boolean): Promise<void>;
}

const requireRun = (core: Core, reference: string): RunningVm => {
  const record = getVm(core.vms, reference);
  const run = core.running.get(record.id);
  if (run === null || record.state !== "running") {
    throw new KilnError("VM_NOT_RUNNING", `the VM ${record.name} is ${record.state}, not running`, { object: record.name });
  }
  return run;
};

/** The guest that an exec would run in now; null where there is none. */
export const guestOfExec = (core: Core, reference: string): GuestOfExec | null => {
  const record = core.vms.find(reference);
  return record?.state === "running" ? { vm: record.id, epoch: record.epoch } : null;
};

/** A detached command that nobody reads is drained after this long, so that it can end and be forgotten. */
const UNREAD_MS = 30_000;
/** Far longer than any client tries to come back. */
const REMEMBERED_MS = 600_000;

/** Runs a command in a running VM; the same exec id again finds the one that runs. */
export const execInVm = async (core: Core, reference: string, options: { request: Exec; signal: AbortSignal }): Promise<CommandStream> => {
  const { request, signal } = options;
  const run = requireRun(core, reference);
  const record = getVm(core.vms, run.id);
  if (request.epoch !== null && request.epoch !== record.epoch) {
    throw new KilnError("EXEC_NOT_FOUND", `the VM ${record.name} was started again, and what ran in it before has ended`, {
      object: record.name,
    });
  }
  if (run.forgottenExecs.has(request.id)) {
    throw new KilnError(
      "EXEC_NOT_FOUND",
      `the command ${request.id} in ${record.name} has ended, its client knows how, and it was forgotten`,
      {
        object: record.name,
      },
    );
  }
  const spec = {
    id: request.id,
    argv: request.command,
    env: mergeEnv([...record.env, `HOSTNAME=${record.hostname}`], request.env),
    cwd: request.workingDir ?? record.workingDir,
    user: request.user ?? record.user,
    ...{ tty: request.tty, stdin: request.stdin, overflow: request.overflow },
  };
  const attachment = await startAndAttach(run.session, spec, signal);
  return attachedExec(core, run, { id: request.id, attachment, signal });
};

/** Both requests are on their way at once; the guest takes them in order. A refused start explains a refused attach. */
const startAndAttach = async (session: AgentSession, spec: GuestExec, signal: AbortSignal): Promise<ExecAttachment> => {
  const [started, attached] = await Promise.allSettled([session.exec(spec, { signal }), session.attach(spec.id, { signal })]);
  if (started.status === "rejected") {
    if (attached.status === "fulfilled") await attached.value[Symbol.asyncDispose]();
    throw started.reason;
  }
  if (attached.status === "rejected") throw attached.reason;
  return attached.value;
};

const attachedExec = (core: Core, run: RunningVm, exec: { id: string; attachment: ExecAttachment; signal: AbortSignal }): CommandStream => {
  const { id, attachment, signal } = exec;
  const reader = {};
  run.execReaders.set(id, reader);
  const close = (): void => {
    Promise.resolve(attachment[Symbol.asyncDispose]()).catch((error: unknown) => {
      core.journal.info({ vm: run.id, error: String(error) }, "an attachment did not close");
    });
  };
  signal.addEventListener("abort", close, { once: true });
  const exit = Promise.withResolvers<StreamExit>();
  exit.promise.catch(() => undefined); // whoever reads the output learns of it there
  let exited = false;
  const output = async function* (): AsyncGenerator<StreamChunk> {
    try {
      for await (const event of attachment.events) {
        if (event.type === "output") yield event;
        else {
          exited = true;
          exit.resolve(event.status);
        }
      }
    } catch (error) {
      exit.reject(error);
      throw error;
    }
    if (!exited) exit.reject(new KilnError("GUEST_AGENT_PROTOCOL", "the command's output ended without an exit"));
  };
  const leave = async (delivered: boolean): Promise<void> => {
    signal.removeEventListener("abort", close);
    await attachment[Symbol.asyncDispose]();
    if (exited && delivered) await forget(run, { id, signal: core.stopping });
    else void drainLater(core, run, { id, reader });
  };
  return { ...inputs(() => attachment), output: output(), exit: exit.promise, stdinOffset: attachment.stdinOffset, leave };
};

/** The attachment is looked up at each use: a lost channel replaces it. */
const inputs = (current: () => ExecAttachment) => ({
  acknowledge: (stream: "stdout" | "stderr", offset: number): void => current().acknowledge(stream, offset),
  writeStdin: (bytes: Uint8Array, options: { signal: AbortSignal }) => current().writeStdin(bytes, options),
  closeStdin: () => current().closeStdin(),
  resize: (size: { rows: number; cols: number }) => current().resize(size),
  sendSignal: (name: string) => current().sendSignal(name),
});

/** Noted before the guest forgets it: whoever asks for it between the two finds it in one place or the other. */
const forget = async (run: RunningVm, { id, signal }: { id: string; signal: AbortSignal }): Promise<void> => {
  const { forgottenExecs } = run;
  forgottenExecs.add(id);
  for (const oldest of forgottenExecs) {
    if (forgottenExecs.size <= OPERATION_LIMITS.forgottenExecs) break;
    forgottenExecs.delete(oldest);
  }
  run.execReaders.delete(id);
  await run.session.forget(id, { signal });
};

/** So that a command whose reader has gone can end. Its id is kept for a client that comes back: the same id must not run twice (I26). */
const drainLater = async (core: Core, run: RunningVm, exec: { id: string; reader: object }): Promise<void> => {
  const { id, reader } = exec;
  const ended = new AbortController();
  const signal = AbortSignal.any([core.stopping, ended.signal]);
  void run.finished.promise.then(() => ended.abort(new KilnError("VM_NOT_RUNNING", `the VM ${run.name} has ended`)));
  const isLast = (): boolean => !signal.aborted && run.execReaders.get(id) === reader;
  try {
    await core.clock.sleep(UNREAD_MS, { signal });
    if (!isLast()) return;
    const attachment = await run.session.attach(id, { signal });
    for await (const event of attachment.events) {
      if (event.type === "output") attachment.acknowledge(event.stream, event.offset + event.bytes.length);
    }
    await core.clock.sleep(REMEMBERED_MS, { signal });
    if (!isLast()) return;
    await forget(run, { id, signal });
  } catch (error) {
    if (!signal.aborted) core.journal.info({ vm: run.id, exec: id, error: String(error) }, "an unread command was taken over");
  }
};

/** Commands that the last daemon's clients left behind. */
export const drainUnread = async (core: Core, run: RunningVm): Promise<void> => {
  for (const { id } of await run.session.list({ signal: core.stopping })) {
    if (id === MAIN_EXEC || run.execReaders.has(id)) continue;
    const reader = {};
    run.execReaders.set(id, reader);
    void drainLater(core, run, { id, reader });
  }
};

export interface AttachOptions {
  /** The boot that the caller is about to ask for: one that has not begun is waited for, whatever the VM's state. */
  readonly epoch: number | null;
  readonly signal: AbortSignal;
}

/** The VM's own command, from its first byte that is kept. Waits for the start of a VM that was only created. */
export const attachToVm = async (core: Core, reference: string, options: AttachOptions): Promise<CommandStream> => {
  const record = getVm(core.vms, reference);
  const isToCome = options.epoch !== null && record.epoch < options.epoch && ["exited", "failed"].includes(record.state);
  const awaited = isToCome || ["created", "starting", "running", "stopping", "paused"].includes(record.state);
  if (!awaited) throw new KilnError("VM_NOT_RUNNING", `the VM ${record.name} is ${record.state}, not running`, { object: record.name });
  const left = new AbortController();
  const signal = AbortSignal.any([options.signal, left.signal]);
  const run = await core.running.next(record.id, { signal });
  run.attached.resolve();
  const { main } = run;
  if (main === null)
    throw new KilnError("VM_NO_COMMAND", `the idle VM ${record.name} has no command to attach to`, { object: record.name });
  const goodbye = new Deferred<void>();
  run.clients.add(goodbye.promise);
  const exit = run.finished.promise.then((ended): StreamExit => {
    if (ended.error !== null) throw ended.error;
    return ended;
  });
  exit.catch(() => undefined); // whoever awaits it is told
  return {
    ...inputs(() => run.main ?? main),
    acknowledge: () => undefined, // the host's log has it already
    output: run.log.read({ follow: true, holds: true, epochOnly: true, signal }),
    exit,
    stdinOffset: null,
    leave: async () => {
      left.abort();
      run.clients.delete(goodbye.promise);
      goodbye.resolve();
    },
  };
};

export const readConsole = async (core: Core, reference: string, options: { signal: AbortSignal }): Promise<Uint8Array> => {
  const run = requireRun(core, reference);
  return run.vmm.console(options);
};

/** `extra` over `base`, by name. */
const mergeEnv = (base: readonly string[], extra: readonly string[]): string[] => {
  const byName = new Map([...base, ...extra].map((entry) => [entry.slice(0, entry.indexOf("=")), entry]));
  return [...byName.values()];
};
