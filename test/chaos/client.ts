/** One of those who use the daemon at once: does its commands in order, each to its end, and writes down what it saw. */
import { asKilnError, KilnError, type OperationView, parseProblem } from "@kiln/protocol";
import type { CommandExit, CommandSession, Kiln } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { assertNever } from "@kiln/std";
import { type Ground, VM_DISK_BYTES, VM_MEMORY_BYTES } from "./ground.ts";
import { exitOfExec, exitOfOthers, type NonceRun } from "./judge.ts";
import type { Ledger } from "./ledger.ts";
import { type ChaosDriver, type Command, IMAGE_TAGS } from "./plan.ts";
import { wordsOf } from "./words.ts";

type Of<Kind extends Command["kind"]> = Extract<Command, { readonly kind: Kind }>;

/** After that it cancels what it waits for, or leaves. */
const PATIENCE_MS: Readonly<Record<ChaosDriver, number>> = { fake: 5_000, qemu: 30_000 };
/** What is cancelled ends within this, whatever becomes of the daemon. */
const STUCK_MS = 60_000;

export interface ClientParts {
  readonly ground: Ground;
  readonly ledger: Ledger;
  readonly seed: number;
  readonly index: number;
}

export class Client implements Disposable {
  readonly #parts: ClientParts;
  readonly #kiln: Kiln;
  #count = 0;

  constructor(parts: ClientParts) {
    this.#parts = parts;
    this.#kiln = connect({ home: parts.ground.home.path });
  }

  /** Returns when the command is over, whatever became of it. */
  async perform(command: Command): Promise<void> {
    const { ledger, ground, index } = this.#parts;
    this.#count += 1;
    const what = `client ${index}, command ${this.#count}, ${describe(command)}`;
    const leave = new AbortController();
    const late = setTimeout(() => {
      ledger.stuck.push(what);
      leave.abort(new KilnError("CANCELLED", "it did not come back"));
    }, PATIENCE_MS[ground.driver] + STUCK_MS);
    try {
      await this.#do(command, what, leave.signal);
      ledger.count(`${command.kind} done`);
    } catch (error) {
      ledger.fail(what, error instanceof Error ? error : new Error(String(error)));
      const { code, message } = asKilnError(error);
      ledger.count(`${command.kind} ${code}`);
      // as the command line would: whoever finds no daemon starts one
      if (code === "DAEMON_UNREACHABLE") await ground.ensureDaemon();
      await ground.note(`${what}: ${code} ${message.slice(0, 300)}`);
    } finally {
      clearTimeout(late);
    }
  }

  async #do(command: Command, what: string, signal: AbortSignal): Promise<void> {
    const { images, vms } = this.#kiln;
    const { ledger } = this.#parts;
    switch (command.kind) {
      case "create":
        return this.#create(command, what, signal);
      case "start":
        ledger.countStart(command.vm);
        return void (await this.#follow(await vms.start(command.vm, { signal }), what, signal));
      case "stop":
        return void (await this.#follow(await vms.stop(command.vm, { signal, timeoutMs: 500 }), what, signal));
      case "remove":
        return void (await this.#follow(await vms.remove(command.vm, { signal, force: command.force }), what, signal));
      case "kill":
        return vms.kill(command.vm, { signal });
      case "exec":
        return this.#insist(command, what, signal);
      case "crash-guest":
      case "hang-up":
        return void (await this.#read(vms.exec(command.vm, { command: this.#words[command.kind] }, { signal })));
      case "publish":
        return void (await vms.addPort(command.vm, { guestPort: command.port }, { signal }));
      case "unpublish":
        return vms.removePort(command.vm, { guestPort: command.port }, { signal });
      case "pull":
        return void (await this.#follow(await images.pull(this.#reference(command.image), { signal }), what, signal));
      case "verify":
        return void (await this.#follow(await images.verify(this.#reference(command.image), { signal }), what, signal));
      case "rebuild":
        return void (await this.#follow(await images.rebuild(this.#reference(command.image), { signal }), what, signal));
      case "untag":
        return images.remove(this.#reference(command.image), { signal });
      case "tag":
        return void (await images.tag(this.#reference(command.image), command.name, { signal }));
      case "promote":
        return void (await this.#follow(await images.promote(command.vm, { name: command.name, replace: true }, { signal }), what, signal));
      default:
        return this.#look(command, signal);
    }
  }

  async #look(
    command: Of<"list" | "df" | "status" | "prune" | "cancel" | "list-by-cli" | "inspect" | "logs" | "explain">,
    signal: AbortSignal,
  ): Promise<void> {
    const kiln = this.#kiln;
    switch (command.kind) {
      case "list":
        return void (await kiln.vms.list({ signal }));
      case "df":
        return void (await kiln.df({ signal }));
      case "status":
        return void (await kiln.daemon.status({ signal }));
      case "prune":
        return void (await kiln.prune({ images: true }, { signal }));
      case "inspect":
        return void (await kiln.vms.get(command.vm, { signal }));
      case "explain":
        return this.#explain(command.vm, signal);
      case "logs":
        for await (const _chunk of kiln.vms.logs(command.vm, { signal }));
        return;
      case "cancel": {
        const [oldest] = (await kiln.operations.list({ signal })).toSorted((a, b) => a.startedAt.localeCompare(b.startedAt));
        if (oldest !== undefined) await kiln.operations.cancel(oldest.id, { signal });
        return;
      }
      case "list-by-cli":
        return void (await this.#cli(["ps", "-a", "--json"], command.kind));
      default:
        return assertNever(command);
    }
  }

  /** Nothing is remembered of a name that no VM has had. */
  async #explain(vm: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#kiln.explain(vm, { signal });
    } catch (error) {
      if (!(error instanceof KilnError && error.code === "NOT_FOUND")) throw error;
    }
  }

  async #create({ vm, image, life, autoRemove }: Of<"create">, what: string, signal: AbortSignal): Promise<void> {
    const { ledger } = this.#parts;
    const run = life === "short" ? ledger.begin(this.#nonce(), what, vm) : null;
    const operation = await this.#kiln.vms.create(
      {
        ...{ name: vm, image: this.#reference(image), autoRemove, start: life !== "none", memoryBytes: VM_MEMORY_BYTES },
        ...{ diskBytes: VM_DISK_BYTES, network: "none" },
        ...(run === null ? { idle: true } : { command: [...this.#words.note(run.nonce, 0)] }),
      },
      { signal },
    );
    const { result } = await this.#follow(operation, what, signal);
    if (result === null) throw new Error("a VM was created and has no id");
    if (!autoRemove) ledger.created.set(result, vm);
    if (run === null) return;
    const ended = await this.#kiln.vms.wait(result, { signal: this.#patience(signal) });
    run.acknowledged = ended.state === "exited" && ended.exitCode === 0;
  }

  /** Does what its user would: whoever needs the VM and finds none makes one. */
  async #insist(command: Of<"exec">, what: string, signal: AbortSignal): Promise<void> {
    try {
      return await this.#exec(command, what, signal);
    } catch (error) {
      const { code } = asKilnError(error);
      if (!command.insists || (code !== "VM_NOT_FOUND" && code !== "VM_NOT_RUNNING")) throw error;
      const again = code === "VM_NOT_FOUND" ? this.#createIdle(command.vm) : ({ kind: "start", vm: command.vm } as const);
      await this.#do(again, what, signal);
    }
    this.#count += 1;
    await this.#exec(command, what, signal);
  }

  #createIdle(vm: string): Of<"create"> {
    return { kind: "create", vm, image: IMAGE_TAGS[0], life: "idle", autoRemove: false };
  }

  async #exec({ vm, way, holdMs }: Of<"exec">, what: string, signal: AbortSignal): Promise<void> {
    const run = this.#parts.ledger.begin(this.#nonce(), what);
    const command = this.#words.note(run.nonce, holdMs);
    if (way === "cli") {
      run.said = await this.#cli(["exec", vm, "--", ...command], what);
      run.acknowledged = true;
      return;
    }
    const request = { id: run.nonce, command };
    const sessions = Array.from({ length: way === "twice" ? 2 : 1 }, () =>
      this.#kiln.vms.exec(vm, request, { signal: this.#patience(signal) }),
    );
    const ends = await Promise.allSettled(sessions.map((session) => this.#read(session, way === "twice" ? null : run)));
    for (const end of ends) if (end.status === "fulfilled" && end.value.exitCode === 0) run.acknowledged = true;
    const failed = ends.find((end) => end.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  /** Reads a session to its end. */
  async #read(session: CommandSession, run: NonceRun | null = null): Promise<CommandExit> {
    await using _session = session;
    const chunks: Uint8Array[] = [];
    for await (const { stream, bytes } of session) if (stream === "stdout") chunks.push(bytes);
    const exit = await session.exit;
    if (run !== null && exit.exitCode === 0) run.said = Buffer.concat(chunks).toString();
    return exit;
  }

  /** What it wrote. Throws the error that it told. */
  async #cli(args: readonly string[], what: string): Promise<string> {
    const { code, stdout, stderr } = await this.#parts.ground.home.kiln(["--json", ...args]);
    if (code === 0) return stdout;
    const line = stderr.trimEnd().split("\n").at(-1) ?? "";
    if (!line.startsWith("{")) throw new Error(`kiln ${args[0]} ended with ${code} and said ${JSON.stringify(stderr)}`);
    const error = parseProblem(JSON.parse(line));
    this.#parts.ledger.fail(what, error, { code, wanted: args[0] === "exec" ? exitOfExec : exitOfOthers });
    throw error;
  }

  /** To the end of an operation. One that takes too long is cancelled, as its caller would. */
  async #follow(operation: OperationView, what: string, signal: AbortSignal): Promise<OperationView> {
    const { operations } = this.#kiln;
    const waiting = operations.wait(operation.id, { signal });
    // it may have ended meanwhile: the wait says what became of it
    const late = setTimeout(() => {
      this.#cancel(operation.id, what, signal).catch((error: unknown) => this.#parts.ledger.fail(what, asKilnError(error)));
    }, PATIENCE_MS[this.#parts.ground.driver]);
    try {
      const end = await waiting;
      this.#parts.ledger.tell(what, end);
      return await operations.result(end, { signal });
    } finally {
      clearTimeout(late);
    }
  }

  /** Until a daemon has heard of it: one that is killed meanwhile is followed by another. */
  async #cancel(id: string, what: string, signal: AbortSignal): Promise<void> {
    const { ground, ledger } = this.#parts;
    while (!signal.aborted) {
      try {
        await this.#kiln.operations.cancel(id, { signal });
        return;
      } catch (error) {
        const failed = asKilnError(error);
        ledger.fail(`${what}, cancelled`, failed);
        if (failed.code !== "DAEMON_UNREACHABLE") return;
        await ground.ensureDaemon();
      }
    }
  }

  #patience(signal: AbortSignal): AbortSignal {
    const leave = new AbortController();
    const timer = setTimeout(() => leave.abort(new KilnError("CANCELLED", "its client has left")), PATIENCE_MS[this.#parts.ground.driver]);
    timer.unref();
    return AbortSignal.any([signal, leave.signal]);
  }

  get #words(): ReturnType<typeof wordsOf> {
    return wordsOf(this.#parts.ground);
  }

  #nonce(): string {
    const { seed, index } = this.#parts;
    return `n-${seed}-${index}-${this.#count}`;
  }

  #reference(image: string): string {
    return this.#parts.ground.registry.reference(image);
  }

  [Symbol.dispose](): void {
    this.#kiln[Symbol.dispose]();
  }
}

const describe = (command: Command): string =>
  Object.values(command)
    .map((value) => String(value))
    .join(" ");
