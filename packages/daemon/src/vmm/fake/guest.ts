import { duplexPair, type Duplex } from "node:stream";
import {
  encodeChunk,
  encodeExecInfo,
  encodeFrame,
  encodeHelloAck,
  encodeSplit,
  encodeTlvs,
  CHUNK_BYTES,
  FRAME_TYPES,
  FrameReader,
  OPS,
  OUTPUT_STREAMS,
  parseExec,
  parseHello,
  parseSetup,
  parseTlvs,
  readOffset,
  Reassembly,
  TAGS,
  WIRE,
  WIRE_ERRORS,
  type Frame,
  type Hello,
  type SetupRequest,
  type TlvFields,
  type TlvItem,
} from "@kiln/protocol/wire";
import type { Clock } from "@kiln/std";
import { findCommand } from "./guest-commands.ts";
import { FakeExec } from "./guest-exec.ts";
import { FakePorts } from "./guest-ports.ts";

export interface FakeGuestOptions {
  readonly clock: Clock;
  /** The guest has acknowledged POWEROFF and is gone. */
  readonly onPowerOff: () => void;
  /** A command has ended the machine under it. */
  readonly onHalt?: () => void;
  /** A command begins. An id that is known does not begin again. */
  readonly onExec?: (id: string) => void;
  /** Makes SETUP fail at this step, for tests of what happens then. */
  readonly failSetupAt?: string;
}

const STREAMS = ["stdout", "stderr"] as const;
const SIGTERM = 15;
const SIGKILL = 9;
const NEVER = new AbortController().signal;

/** A guest without a kernel: the agent's wire and a few commands, in this process. Commands outlive channels. */
export class FakeGuest {
  readonly #options: FakeGuestOptions;
  readonly #execs = new Map<string, FakeExec>();
  readonly #ports = new FakePorts((frame) => this.#write(encodeFrame(frame)));
  #channel: Duplex | null = null;
  #reader = new FrameReader();
  #parts = new Reassembly(WIRE.requestBytes);
  #hello: Hello | null = null;
  #epoch = -1;
  #sessions = 0;
  #setup: SetupRequest | null = null;
  /** A command may run before SETUP, until the next epoch. */
  #rehearsed = false;
  #off = false;

  constructor(options: FakeGuestOptions) {
    this.#options = options;
  }

  /** What the last SETUP of this epoch said. */
  get setup(): SetupRequest | null {
    return this.#setup;
  }

  /** The host's end of a fresh channel; the one before is destroyed. */
  openChannel(): Duplex {
    this.#channel?.destroy();
    const [host, guest] = duplexPair();
    this.#channel = guest;
    this.#hello = null;
    this.#reader = new FrameReader();
    this.#parts = new Reassembly(WIRE.requestBytes);
    guest.on("data", (bytes: Uint8Array) => this.#receive(guest, bytes));
    guest.on("end", () => guest.destroy());
    guest.on("close", () => host.destroy());
    host.on("close", () => guest.destroy());
    if (this.#off) guest.destroy();
    return host;
  }

  /** The guest is gone at once, as if its VMM were killed. */
  powerCut(): void {
    this.#off = true;
    for (const exec of this.#execs.values()) exec.kill(SIGKILL);
    this.#channel?.destroy();
  }

  #receive(channel: Duplex, bytes: Uint8Array): void {
    for (const frame of this.#reader.push(bytes)) {
      if (channel !== this.#channel || channel.destroyed) return;
      this.#onFrame(frame);
    }
    this.#pump();
  }

  #write(bytes: Uint8Array): void {
    if (this.#channel !== null && !this.#channel.destroyed) this.#channel.write(bytes);
  }

  #onFrame(frame: Frame): void {
    const hello = parseHello(frame);
    if (hello !== null) this.#onHello(hello);
    else if (this.#hello === null) return;
    else if (frame.type === FRAME_TYPES.REQUEST) this.#onRequest(frame);
    else if (frame.type === FRAME_TYPES.DATA || frame.type === FRAME_TYPES.CREDIT || frame.type === FRAME_TYPES.RESET)
      this.#ports.onFrame(frame);
    else if (frame.type === FRAME_TYPES.ACK || frame.type === FRAME_TYPES.STDIN) this.#onData(frame);
  }

  #onHello(hello: Hello): void {
    if (this.#hello === null) this.#open(hello);
    const isStale = hello.epoch < this.#epoch;
    const ack = { nonce: hello.nonce, version: WIRE.version, epoch: this.#epoch, sessions: this.#sessions, ready: this.#setup !== null };
    this.#write(encodeHelloAck({ ...ack, error: isStale ? WIRE_ERRORS.STALE_EPOCH : WIRE_ERRORS.OK }));
  }

  #open(hello: Hello): void {
    if (hello.epoch < this.#epoch) return;
    if (hello.epoch > this.#epoch) {
      this.#epoch = hello.epoch;
      this.#sessions = 0;
      this.#setup = null;
      this.#rehearsed = false;
    }
    this.#sessions += 1;
    this.#hello = hello;
    for (const exec of this.#execs.values()) exec.stream = null;
    this.#ports.clear();
  }

  #onData(frame: Frame): void {
    const exec = [...this.#execs.values()].find((one) => one.stream === frame.stream);
    if (exec === undefined) return;
    const offset = readOffset(new DataView(frame.payload.buffer, frame.payload.byteOffset), 0);
    if (frame.type === FRAME_TYPES.ACK) {
      exec.acknowledge(frame.flags === OUTPUT_STREAMS.STDERR ? "stderr" : "stdout", offset);
      return;
    }
    exec.pushStdin(offset, frame.payload.subarray(8), (frame.flags & 1) !== 0);
    this.#sendWindow(exec);
  }

  #reply(request: number, items: readonly TlvItem[] = [], error: number = WIRE_ERRORS.OK): void {
    for (const part of encodeSplit({ type: FRAME_TYPES.REPLY, flags: error, stream: request, payload: encodeTlvs(items) }))
      this.#write(part);
  }

  #onRequest(part: Frame): void {
    const frame = this.#parts.push(part);
    if (frame === null) return;
    switch (frame.flags) {
      case OPS.SETUP:
        return this.#onSetup(frame);
      case OPS.EXEC:
        return this.#onExec(frame);
      case OPS.LIST:
        return this.#reply(
          frame.stream,
          [...this.#execs.values()].map((exec): TlvItem => [TAGS.EXEC_INFO, encodeExecInfo(exec.info)]),
        );
      case OPS.REHEARSE:
        this.#rehearsed = true;
        return this.#reply(frame.stream);
      case OPS.PING:
      case OPS.SYNC:
      case OPS.CLOCK:
      case OPS.PREPARE:
        return this.#reply(frame.stream);
      case OPS.POWEROFF:
        void this.#powerOff(frame.stream, parseTlvs(frame.payload).u32(TAGS.GRACE_MS));
        return;
      case OPS.DIAL:
        return this.#reply(frame.stream, [], this.#ports.dial(parseTlvs(frame.payload)));
      case OPS.DETACH:
        for (const exec of this.#execs.values()) if (exec.stream === parseTlvs(frame.payload).u32(TAGS.STREAM)) exec.stream = null;
        return this.#reply(frame.stream);
      default:
        return this.#onExecRequest(frame, parseTlvs(frame.payload));
    }
  }

  #onSetup(frame: Frame): void {
    const step = this.#options.failSetupAt;
    if (step !== undefined) {
      this.#reply(
        frame.stream,
        [
          [TAGS.STEP, step],
          [TAGS.ERRNO, 5],
          [TAGS.MESSAGE, "asked to fail"],
        ],
        WIRE_ERRORS.SETUP_FAILED,
      );
      return;
    }
    this.#setup ??= parseSetup(frame.payload);
    this.#reply(frame.stream);
  }

  #onExec(frame: Frame): void {
    const request = parseExec(frame.payload);
    const name = request.argv[0] ?? "";
    if (this.#setup === null && !this.#rehearsed) return this.#reply(frame.stream, [], WIRE_ERRORS.NOT_READY);
    if (this.#execs.has(request.id)) return this.#reply(frame.stream);
    if (findCommand(name) === null)
      return this.#reply(
        frame.stream,
        [
          [TAGS.MESSAGE, name],
          [TAGS.ERRNO, 2],
        ],
        WIRE_ERRORS.COMMAND_NOT_FOUND,
      );
    this.#options.onExec?.(request.id);
    const machine = { halt: () => this.#options.onHalt?.(), hangUp: () => void this.#channel?.destroy() };
    this.#execs.set(request.id, new FakeExec(request, { clock: this.#options.clock, machine, onChange: () => this.#pump() }));
    this.#reply(frame.stream);
  }

  #onExecRequest(frame: Frame, fields: TlvFields): void {
    const id = fields.has(TAGS.EXEC_ID) ? fields.text(TAGS.EXEC_ID) : "";
    const exec = this.#execs.get(id);
    if (exec === undefined)
      return this.#reply(
        frame.stream,
        [[TAGS.MESSAGE, `no command ${id}`]],
        frame.flags === OPS.FORGET ? WIRE_ERRORS.OK : WIRE_ERRORS.EXEC_NOT_FOUND,
      );
    if (frame.flags === OPS.FORGET && exec.running) return this.#reply(frame.stream, [[TAGS.MESSAGE, "it still runs"]], WIRE_ERRORS.FAILED);
    if (frame.flags === OPS.FORGET) this.#execs.delete(id);
    if (frame.flags === OPS.SIGNAL) exec.kill(fields.u32(TAGS.SIGNAL));
    if (frame.flags !== OPS.ATTACH) return this.#reply(frame.stream);
    exec.attach(fields.u32(TAGS.STREAM));
    this.#reply(frame.stream, [[TAGS.EXEC_INFO, encodeExecInfo(exec.info)]]);
  }

  /** Sends what may go: output within its window, then exits. */
  #pump(): void {
    for (const exec of this.#execs.values()) {
      if (exec.stream === null || this.#hello === null) continue;
      for (const stream of STREAMS) this.#sendOutput(exec, stream);
      if (exec.running || exec.exitSent || !exec.allSent) continue;
      exec.exitSent = true;
      this.#write(
        encodeFrame({
          type: FRAME_TYPES.EXIT,
          flags: 0,
          stream: exec.stream,
          payload: encodeTlvs([[TAGS.EXEC_INFO, encodeExecInfo(exec.info)]]),
        }),
      );
    }
  }

  #sendOutput(exec: FakeExec, stream: (typeof STREAMS)[number]): void {
    const flags = stream === "stdout" ? OUTPUT_STREAMS.STDOUT : OUTPUT_STREAMS.STDERR;
    for (let next = exec.takeOutput(stream, CHUNK_BYTES); next !== null; next = exec.takeOutput(stream, CHUNK_BYTES)) {
      this.#write(
        encodeFrame({ type: FRAME_TYPES.OUTPUT, flags, stream: exec.stream ?? 0, payload: encodeChunk(next.offset, next.bytes) }),
      );
    }
    if (exec.request.stdin) this.#sendWindow(exec);
  }

  #sendWindow(exec: FakeExec): void {
    const { stdinReceived, stdinConsumed, stdinClosed } = exec.info;
    const payload = new Uint8Array(16);
    const view = new DataView(payload.buffer);
    view.setBigUint64(0, BigInt(stdinReceived), true);
    view.setBigUint64(8, BigInt(stdinConsumed), true);
    this.#write(encodeFrame({ type: FRAME_TYPES.WINDOW, flags: stdinClosed ? 1 : 0, stream: exec.stream ?? 0, payload }));
  }

  async #powerOff(request: number, graceMs: number): Promise<void> {
    const execs = [...this.#execs.values()];
    for (const exec of execs) exec.kill(graceMs > 0 ? SIGTERM : SIGKILL);
    await Promise.all(execs.map((exec) => exec.ended));
    this.#reply(request);
    // the answer is read before the channel ends
    await this.#options.clock.sleep(0, { signal: NEVER });
    this.#off = true;
    this.#channel?.end();
    this.#options.onPowerOff();
  }
}
