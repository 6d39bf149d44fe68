import { KilnError } from "@kiln/protocol/errors";
import { OUTPUT_STREAMS, WIRE, parseExecInfo, parseTlvs, readOffset, TAGS, type ExecInfo, type Frame } from "@kiln/protocol/wire";
import type { ExecAttachment, OutputStream } from "../vms/agent.port.ts";
import { EventQueue } from "./event-queue.ts";
import { statusOf } from "./status.ts";
import { StdinWriter } from "./stdin-writer.ts";

/** What an attachment needs of its session. Sends are dropped once the session is closed. */
export interface AttachmentLink {
  sendAck(stream: OutputStream, offset: number): void;
  sendStdin(offset: number, bytes: Uint8Array, end: boolean): void;
  resize(size: { readonly rows: number; readonly cols: number }): Promise<void>;
  sendSignal(name: string): Promise<void>;
  detach(): Promise<void>;
}

interface Received {
  /** Where the next byte goes. */
  next: number;
  /** Acknowledged by the reader, and told to the guest. */
  acked: number;
  told: number;
}

const OFFSET_BYTES = 8;
const violation = (what: string): KilnError => new KilnError("GUEST_AGENT_PROTOCOL", `the agent broke the protocol: ${what}`);

/** One reader of one command. The session hands it frames; it throws GUEST_AGENT_PROTOCOL for one that cannot be. */
export class Attachment implements ExecAttachment {
  readonly #link: AttachmentLink;
  readonly #queue = new EventQueue();
  readonly #received: Readonly<Record<OutputStream, Received>>;
  readonly stdinOffset: number;
  readonly #stdin: StdinWriter;
  #ackScheduled = false;
  #ended = false;
  readonly execId: string;

  constructor(info: ExecInfo, link: AttachmentLink) {
    const from = (start: number): Received => ({ next: start, acked: start, told: start });
    this.execId = info.id;
    this.#link = link;
    this.#received = { stdout: from(info.stdout.start), stderr: from(info.stderr.start) };
    const stdin = { received: info.stdinReceived, consumed: info.stdinConsumed, closed: info.stdinClosed };
    this.stdinOffset = info.stdinReceived;
    this.#stdin = new StdinWriter(stdin, (offset, bytes, end) => link.sendStdin(offset, bytes, end));
  }

  get events(): EventQueue {
    return this.#queue;
  }

  acknowledge(stream: OutputStream, offset: number): void {
    const received = this.#received[stream];
    received.acked = Math.max(received.acked, Math.min(offset, received.next));
    if (this.#ackScheduled || this.#ended) return;
    this.#ackScheduled = true;
    setImmediate(() => this.#tellAcks());
  }

  writeStdin(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<void> {
    return this.#stdin.write(bytes, options.signal);
  }

  closeStdin(): Promise<void> {
    return this.#stdin.close();
  }

  resize(size: { readonly rows: number; readonly cols: number }): Promise<void> {
    return this.#link.resize(size);
  }

  sendSignal(name: string): Promise<void> {
    return this.#link.sendSignal(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.end(new KilnError("CANCELLED", `the attachment to ${this.execId} was closed`));
    await this.#link.detach();
  }

  /** Nothing more comes; readers and writers that wait get `error`. */
  end(error: Error): void {
    this.#ended = true;
    this.#queue.end(error);
    this.#stdin.fail(error);
  }

  onOutput(frame: Frame): void {
    const stream = outputStream(frame.flags);
    const received = this.#received[stream];
    if (frame.payload.length <= OFFSET_BYTES) throw violation("output without bytes");
    const offset = readOffset(viewOf(frame.payload), 0);
    const bytes = frame.payload.subarray(OFFSET_BYTES);
    if (offset < received.next) throw violation(`${stream} of ${this.execId} went back from ${received.next} to ${offset}`);
    if (offset > received.next && received.told < received.next)
      throw violation(`${stream} of ${this.execId} jumped before all was acknowledged`);
    if (offset > received.next) received.acked = received.told = offset;
    received.next = offset + bytes.length;
    if (received.next - received.told > WIRE.ringBytes) throw violation(`${stream} of ${this.execId} exceeds its window`);
    this.#queue.push({ type: "output", stream, offset, bytes });
  }

  onWindow(frame: Frame): void {
    if (frame.payload.length !== 2 * OFFSET_BYTES) throw violation("a stdin window of the wrong size");
    const view = viewOf(frame.payload);
    this.#stdin.move({ received: readOffset(view, 0), consumed: readOffset(view, OFFSET_BYTES), closed: (frame.flags & 1) !== 0 });
  }

  onExit(frame: Frame): void {
    const info = parseExecInfo(parseTlvs(frame.payload).bytes(TAGS.EXEC_INFO));
    const { stdout, stderr } = this.#received;
    const isWhole =
      info.state === "EXITED" && info.id === this.execId && info.stdout.end === stdout.next && info.stderr.end === stderr.next;
    if (!isWhole) throw violation(`the exit of ${this.execId} does not follow its output`);
    this.#queue.push({ type: "exit", status: statusOf(info) });
    this.#queue.end(null);
  }

  #tellAcks(): void {
    this.#ackScheduled = false;
    for (const stream of ["stdout", "stderr"] as const) {
      const received = this.#received[stream];
      if (this.#ended || received.acked === received.told) continue;
      received.told = received.acked;
      this.#link.sendAck(stream, received.acked);
    }
  }
}

const outputStream = (flags: number): OutputStream => {
  if (flags === OUTPUT_STREAMS.STDOUT) return "stdout";
  if (flags === OUTPUT_STREAMS.STDERR) return "stderr";
  throw violation(`output of unknown stream ${flags}`);
};

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
