import { asKilnError, KilnError, parseProblem } from "@kiln/protocol/errors";
import { encodeDataFrame, parseDataFrame, STDIN_WINDOW_BYTES, type ClientMessage, type GuestOfExec } from "@kiln/protocol/streams";
import { abortable, Deferred, type Clock } from "@kiln/std";
import { isUnreachable } from "./api-client.ts";
import { SDK_LIMITS } from "./limits.ts";
import { Patience } from "./patience.ts";
import { OutputBuffer, type OutputChunk } from "./output-buffer.ts";
import { StdinWindow } from "./stdin-window.ts";
import type { TransportSocket } from "./transport.ts";

export interface CommandExit {
  readonly exitCode: number | null;
  /** For example "SIGKILL". */
  readonly signal: string | null;
  readonly oomKilled: boolean;
}

export interface SessionSource {
  /** Opens the socket, for the first time and after each break; `guest` is where an exec's command runs, once that is known. */
  readonly open: (options: { readonly guest: GuestOfExec | null; readonly signal: AbortSignal }) => Promise<TransportSocket>;
  /** The first text message on each socket: an exec's request. Its id makes the command run once in that guest. */
  readonly hello: ((guest: GuestOfExec | null) => string) | null;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly patienceMs?: number;
  /**
   * Asked when a session that ran cannot be resumed: puts the output that is left into `output` and says how the
   * command ended, or null if that is not known.
   */
  readonly recover?: (
    error: KilnError,
    options: { readonly output: OutputBuffer; readonly signal: AbortSignal },
  ) => Promise<CommandExit | null>;
}

/**
 * One command that runs in a guest, its streams attached. Iterate it for the output: each byte once and in order,
 * acknowledged to the guest when the next chunk is asked for. Output that nobody reads holds the command up (or is
 * dropped, as the exec's `overflow` says), so iterate even where only `exit` matters.
 *
 * A broken connection is opened again for a minute and goes on where it broke. Errors reject the iteration,
 * `started` and `exit` alike, with the daemon's KilnError.
 */
export class CommandSession implements AsyncIterable<OutputChunk>, AsyncDisposable {
  /** Settles when the command runs. */
  readonly started: Promise<void>;
  /** Settles when the command has ended and its last output has arrived. */
  readonly exit: Promise<CommandExit>;
  /** Settles when the first socket is open: from then on nothing of the command is missed. */
  readonly connected: Promise<void>;

  readonly #source: SessionSource;
  readonly #leave = new AbortController();
  readonly #started = new Deferred<void>();
  readonly #exit = new Deferred<CommandExit>();
  readonly #connected = new Deferred<void>();
  readonly #output = new OutputBuffer(SDK_LIMITS.sessionBufferBytes);
  readonly #stdin = new StdinWindow(STDIN_WINDOW_BYTES);
  readonly #consumed = { stdout: 0, stderr: 0 };
  readonly #acknowledged = { stdout: 0, stderr: 0 };
  readonly #running: Promise<void>;
  /** The socket to send on, once it knows what the last one may have lost; null when the session is over. */
  #ready = new Deferred<TransportSocket | null>();
  #isReady = false;
  #hasStarted = false;
  #guest: GuestOfExec | null = null;
  #size: { readonly rows: number; readonly cols: number } | null = null;
  #stdinEnded = false;
  #sending: Promise<unknown> = Promise.resolve();

  constructor(source: SessionSource) {
    this.#source = source;
    this.started = this.#started.promise;
    this.exit = this.#exit.promise;
    this.connected = this.#connected.promise;
    for (const promise of [this.started, this.exit, this.connected]) promise.catch(() => undefined); // a caller awaits those it needs
    const signal = source.signal === undefined ? this.#leave.signal : AbortSignal.any([this.#leave.signal, source.signal]);
    this.#running = this.#run(signal).then(
      (exit) => {
        this.#started.resolve();
        this.#exit.resolve(exit);
        this.#output.end();
        this.#setReady(null);
      },
      (error: unknown) => {
        for (const side of [this.#connected, this.#started, this.#exit]) side.reject(error);
        this.#output.end(asKilnError(error));
        this.#setReady(null);
      },
    );
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk> {
    for (let chunk = await this.#output.take(); chunk !== null; chunk = await this.#output.take()) {
      yield chunk;
      this.#consumed[chunk.stream] = chunk.offset + chunk.bytes.length;
      this.#acknowledge();
    }
  }

  /** Sends stdin; resolves when the network has taken it, within the guest's window. False: the session is over, nothing was sent. */
  async write(bytes: Uint8Array): Promise<boolean> {
    await this.#stdin.room();
    return this.#send((socket) => socket.send(encodeDataFrame({ stream: "stdin", offset: this.#stdin.add(bytes), bytes })));
  }

  endStdin(): Promise<boolean> {
    return this.#send((socket) => {
      this.#stdinEnded = true;
      return sendControl(socket, { type: "stdin-end" });
    });
  }

  resize(size: { readonly rows: number; readonly cols: number }): Promise<boolean> {
    this.#size = size;
    return this.#send((socket) => sendControl(socket, { type: "resize", ...size }));
  }

  /** For example "SIGINT". */
  sendSignal(signal: string): Promise<boolean> {
    return this.#send((socket) => sendControl(socket, { type: "signal", signal }));
  }

  /** Leaves the command to itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#leave.abort(new KilnError("CANCELLED", "the session was closed"));
    await this.#running;
  }

  /** Sends in the order of the calls. What breaks on the way is sent again by `#resume`, a signal excepted. */
  #send(action: (socket: TransportSocket) => Promise<void>): Promise<boolean> {
    const sent = this.#sending.then(async () => {
      const socket = await this.#ready.promise;
      if (socket === null) return false;
      await action(socket).catch(ignoreBreak);
      return true;
    });
    this.#sending = sent.catch(() => undefined); // the caller has the error in `sent`
    return sent;
  }

  async #run(signal: AbortSignal): Promise<CommandExit> {
    const { clock } = this.#source;
    let patienceMs: number = SDK_LIMITS.firstPatienceMs;
    const patience = new Patience(clock);
    for (let attempt = 0; ; attempt += 1) {
      try {
        const exit = await this.#connect(signal, () => {
          patienceMs = this.#source.patienceMs ?? SDK_LIMITS.sessionPatienceMs;
          patience.answered();
          attempt = 0;
        });
        if (exit !== null) return exit;
      } catch (error) {
        if (!isUnreachable(error)) return await this.#recover(error, signal);
        if (patience.isOver(patienceMs)) throw error;
      }
      const pauseMs = Math.min(SDK_LIMITS.sessionRetryMaxMs, SDK_LIMITS.sessionRetryBaseMs * 2 ** attempt);
      await clock.sleep(pauseMs, { signal });
    }
  }

  async #recover(error: unknown, signal: AbortSignal): Promise<CommandExit> {
    const { recover } = this.#source;
    const known = this.#hasStarted && error instanceof KilnError && recover !== undefined;
    const exit = known ? await recover(error, { output: this.#output, signal }) : null;
    if (exit === null) throw error;
    return exit;
  }

  /** One socket, from its opening until the command's exit, or null when it broke. `alive` hears that the daemon works. */
  async #connect(signal: AbortSignal, alive: () => void): Promise<CommandExit | null> {
    const { open, hello } = this.#source;
    const socket = await open({ guest: this.#guest, signal });
    try {
      if (hello !== null) await socket.send(hello(this.#guest));
      this.#connected.resolve();
      return await abortable(this.#read(socket, alive), signal);
    } finally {
      if (this.#isReady) this.#ready = new Deferred();
      this.#isReady = false;
      socket.close();
    }
  }

  async #read(socket: TransportSocket, alive: () => void): Promise<CommandExit | null> {
    for await (const message of socket.messages) {
      alive();
      if (typeof message !== "string") {
        await this.#output.push(parseDataFrame(message));
        alive();
        continue;
      }
      const control = parseServerMessage(message);
      if (control.type === "error") throw control.error;
      if (control.type === "exit") return control.exit;
      if (control.type === "guest") this.#guest ??= control.guest;
      else if (control.type === "stdin-ack") this.#stdin.acknowledge(control.offset);
      else await this.#resume(socket, control);
    }
    return null;
  }

  /** Tells a fresh socket what the last one may have lost, then opens it to the writers. */
  async #resume(socket: TransportSocket, { stdinOffset }: Started): Promise<void> {
    this.#hasStarted = true;
    this.#started.resolve();
    for (const piece of this.#stdin.resume(stdinOffset)) await socket.send(encodeDataFrame({ stream: "stdin", ...piece }));
    if (this.#stdinEnded) await sendControl(socket, { type: "stdin-end" });
    if (this.#size !== null) await sendControl(socket, { type: "resize", ...this.#size });
    this.#acknowledged.stdout = 0;
    this.#acknowledged.stderr = 0;
    this.#setReady(socket);
    this.#acknowledge();
  }

  #acknowledge(): void {
    const stepBytes = this.#output.isEmpty ? 1 : SDK_LIMITS.ackEveryBytes;
    for (const stream of ["stdout", "stderr"] as const) {
      const offset = this.#consumed[stream];
      if (offset - this.#acknowledged[stream] < stepBytes) continue;
      this.#acknowledged[stream] = offset;
      this.#send((socket) => sendControl(socket, { type: "ack", stream, offset })).catch((error: unknown) => this.#leave.abort(error));
    }
  }

  #setReady(socket: TransportSocket | null): void {
    if (this.#isReady) this.#ready = new Deferred();
    this.#isReady = true;
    this.#ready.resolve(socket);
    if (socket === null) this.#stdin.close();
  }
}

const ignoreBreak = (error: unknown): void => {
  if (!isUnreachable(error)) throw error;
};

const sendControl = (socket: TransportSocket, message: ClientMessage): Promise<void> => socket.send(JSON.stringify(message));

interface Started {
  readonly type: "started";
  /** How much of stdin the daemon has; null from a daemon that does not say. */
  readonly stdinOffset: number | null;
}

type Control =
  | Started
  | { readonly type: "guest"; readonly guest: GuestOfExec }
  | { readonly type: "stdin-ack"; readonly offset: number }
  | { readonly type: "exit"; readonly exit: CommandExit }
  | { readonly type: "error"; readonly error: KilnError };

/** A text message of the daemon; anything that is none is an INTERNAL error. */
const parseServerMessage = (text: string): Control => {
  let fields: Readonly<Record<string, unknown>>;
  try {
    fields = JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw new KilnError("INTERNAL", "the daemon sent a broken message on a stream", { cause });
  }
  switch (fields["type"]) {
    case "guest":
      return { type: "guest", guest: { vm: String(fields["vm"]), epoch: numberOr(fields["epoch"], 0) } };
    case "started":
      return { type: "started", stdinOffset: numberOr(fields["stdinOffset"], null) };
    case "stdin-ack":
      return { type: "stdin-ack", offset: numberOr(fields["offset"], 0) };
    case "exit":
      return { type: "exit", exit: parseExit(fields) };
    case "error":
      return { type: "error", error: parseProblem(fields["problem"]) };
    default:
      throw new KilnError("INTERNAL", `the daemon sent an unknown message on a stream: ${String(fields["type"])}`);
  }
};

const numberOr = <Other>(value: unknown, other: Other): number | Other => (typeof value === "number" ? value : other);

const parseExit = (fields: Readonly<Record<string, unknown>>): CommandExit => ({
  exitCode: numberOr(fields["exitCode"], null),
  signal: typeof fields["signal"] === "string" ? fields["signal"] : null,
  oomKilled: fields["oomKilled"] === true,
});
