import { WIRE, type ExecInfo, type ExecRequest } from "@kiln/protocol/wire";
import { Deferred, type Clock } from "@kiln/std";
import { findCommand, type MachineSwitches } from "./guest-commands.ts";

type Stream = "stdout" | "stderr";

interface Output {
  /** Bytes not acknowledged yet, from offset `start`. */
  kept: Uint8Array;
  start: number;
  sent: number;
}

const SIGKILL = 9;

/** Ends a command from outside. */
class Killed extends Error {
  override readonly name = "Killed";
  readonly number: number;

  constructor(number: number) {
    super(`signal ${number}`);
    this.number = number;
  }
}

/** One command of a fake guest, kept until it is forgotten. `onChange` runs whenever there may be something to send. */
export class FakeExec {
  readonly request: ExecRequest;
  readonly output: Readonly<Record<Stream, Output>> = {
    stdout: { kept: new Uint8Array(0), start: 0, sent: 0 },
    stderr: { kept: new Uint8Array(0), start: 0, sent: 0 },
  };
  /** The attachment's stream number in the session that is open. */
  stream: number | null = null;
  exitSent = false;
  readonly ended: Promise<void>;
  readonly #kill = new AbortController();
  readonly #onChange: () => void;
  #end: { readonly exitCode: number; readonly signal: number } | null = null;
  #stdin: Uint8Array[] = [];
  #received = 0;
  #consumed = 0;
  #stdinEnded: boolean;
  #stdinMoved = new Deferred<void>();

  constructor(request: ExecRequest, options: { clock: Clock; machine: MachineSwitches; onChange: () => void }) {
    this.request = request;
    this.#onChange = options.onChange;
    this.#stdinEnded = !request.stdin;
    this.ended = this.#run(options);
  }

  get running(): boolean {
    return this.#end === null;
  }

  get info(): ExecInfo {
    const { stdout, stderr } = this.output;
    return {
      id: this.request.id,
      state: this.#end === null ? "RUNNING" : "EXITED",
      exitCode: this.#end?.exitCode ?? 0,
      signal: this.#end?.signal ?? 0,
      oomKilled: false,
      tty: this.request.tty !== null,
      stdin: this.request.stdin,
      drop: this.request.overflow === "drop",
      stdinClosed: this.stdinClosed,
      stdout: { start: stdout.start, end: stdout.start + stdout.kept.length },
      stderr: { start: stderr.start, end: stderr.start + stderr.kept.length },
      stdinReceived: this.#received,
      stdinConsumed: this.#consumed,
      pid: 2,
    };
  }

  get stdinClosed(): boolean {
    return this.#end !== null || !this.request.stdin;
  }

  kill(number: number): void {
    this.#kill.abort(new Killed(number));
  }

  /** The next output that the window lets go, counted as sent; null where there is none. */
  takeOutput(stream: Stream, maxBytes: number): { offset: number; bytes: Uint8Array } | null {
    const output = this.output[stream];
    const window = WIRE.ringBytes - (output.sent - output.start);
    const bytes = output.kept.slice(output.sent - output.start).subarray(0, Math.min(window, maxBytes));
    if (bytes.length === 0) return null;
    const offset = output.sent;
    output.sent += bytes.length;
    return { offset, bytes };
  }

  get allSent(): boolean {
    return Object.values(this.output).every((output) => output.sent === output.start + output.kept.length);
  }

  acknowledge(stream: Stream, offset: number): void {
    const output = this.output[stream];
    if (offset <= output.start || offset > output.sent) return;
    output.kept = output.kept.slice(offset - output.start);
    output.start = offset;
    this.#onChange();
  }

  /** Begins to send to `stream` what is not acknowledged. */
  attach(stream: number): void {
    this.stream = stream;
    this.exitSent = false;
    for (const output of Object.values(this.output)) output.sent = output.start;
  }

  pushStdin(offset: number, bytes: Uint8Array, end: boolean): void {
    const fresh = bytes.slice(Math.max(0, this.#received - offset));
    this.#received += fresh.length;
    if (this.stdinClosed) this.#consumed = this.#received;
    else if (fresh.length > 0) this.#stdin.push(fresh);
    if (end) this.#stdinEnded = true;
    this.#stdinMoved.resolve();
    this.#stdinMoved = new Deferred<void>();
  }

  async #run({ clock, machine }: { clock: Clock; machine: MachineSwitches }): Promise<void> {
    const { signal } = this.#kill;
    const [name = "", ...args] = this.request.argv;
    const command = findCommand(name);
    try {
      const killed = new Promise<never>((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
      );
      const io = {
        env: this.request.env,
        write: (stream: Stream, bytes: Uint8Array) => this.#write(stream, bytes),
        readStdin: () => this.#readStdin(),
        sleep: (ms: number) => clock.sleep(ms, { signal }),
        machine,
      };
      const exitCode = await Promise.race([killed, command === null ? 127 : command(args, io)]);
      this.#end = { exitCode, signal: 0 };
    } catch (error) {
      this.#end = { exitCode: 0, signal: error instanceof Killed ? error.number : SIGKILL };
    }
    this.#consumed = this.#received;
    this.#onChange();
  }

  #write(stream: Stream, bytes: Uint8Array): void {
    if (this.#end !== null) return;
    const output = this.output[stream];
    const kept = new Uint8Array(output.kept.length + bytes.length);
    kept.set(output.kept);
    kept.set(bytes, output.kept.length);
    output.kept = kept;
    this.#onChange();
  }

  async #readStdin(): Promise<Uint8Array | null> {
    while (this.#stdin.length === 0) {
      if (this.#stdinEnded) return null;
      await this.#stdinMoved.promise;
    }
    const bytes = this.#stdin.shift() ?? null;
    this.#consumed += bytes?.length ?? 0;
    this.#onChange();
    return bytes;
  }
}
