import type { Duplex } from "node:stream";
import { KilnError } from "@kiln/protocol/errors";
import { LIMITS } from "@kiln/protocol/limits";
import {
  encodeChunk,
  encodeExec,
  encodeFrame,
  encodeNetwork,
  encodeSetup,
  encodeSize,
  encodeTlvs,
  FRAME_TYPES,
  FrameReader,
  OPS,
  OUTPUT_STREAMS,
  parseExecInfo,
  parseSignal,
  TAGS,
  type Frame,
  type Op,
  type TlvFields,
  type TlvItem,
} from "@kiln/protocol/wire";
import { Deferred, type Clock } from "@kiln/std";
import type {
  AgentHello,
  AgentSession,
  ExecAttachment,
  ExecStatus,
  GuestPreparation,
  GuestConnection,
  GuestExec,
  GuestPort,
  GuestSetup,
} from "../vms/agent.port.ts";
import { Attachment, type AttachmentLink } from "./attachment.ts";
import { Connections } from "./connections.ts";
import { AGENT_LIMITS } from "./limits.ts";
import { Requests } from "./requests.ts";
import { statusOf } from "./status.ts";

type Signalled = { readonly signal: AbortSignal };
const NEVER = new AbortController().signal;

/** One open conversation. Every byte from the guest is checked; the first that cannot be ends the session with GUEST_AGENT_PROTOCOL. */
export class WireAgentSession implements AgentSession {
  readonly hello: AgentHello;
  readonly closed: Promise<void>;
  readonly #channel: Duplex;
  readonly #clock: Clock;
  readonly #reader = new FrameReader();
  readonly #requests: Requests;
  readonly #attachments = new Map<number, Attachment>();
  readonly #connections: Connections;
  readonly #closed = new Deferred<void>();
  #nextStream = 1;
  #gathers = false;
  #end: KilnError | null = null;

  /** Takes over a channel on which HELLO_ACK has come; `rest` is what followed it. */
  constructor(channel: Duplex, options: { hello: AgentHello; rest: Uint8Array; clock: Clock }) {
    this.hello = options.hello;
    this.closed = this.#closed.promise;
    this.#channel = channel;
    this.#clock = options.clock;
    this.#requests = new Requests(options.clock, (bytes) => this.#write(bytes));
    this.#connections = new Connections(channel, this.#requests);
    channel.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    channel.on("error", (error) => this.#close(new KilnError("GUEST_AGENT_TIMEOUT", "the channel to the agent broke", { cause: error })));
    channel.on("close", () => this.#close(new KilnError("GUEST_AGENT_TIMEOUT", "the channel to the agent was closed")));
    channel.on("end", () => this.#close(new KilnError("GUEST_AGENT_TIMEOUT", "the channel to the agent ended")));
    if (channel.destroyed || channel.readableEnded)
      this.#close(new KilnError("GUEST_AGENT_TIMEOUT", "the channel to the agent was closed"));
    if (options.rest.length > 0) this.#receive(options.rest);
    channel.resume();
  }

  async setup(config: GuestSetup, { signal }: Signalled): Promise<Readonly<Record<string, number>>> {
    const payload = encodeSetup(config);
    const begunMs = this.#clock.monotonicMs();
    const fields = await this.#requests.send({ op: OPS.SETUP, payload, action: "guest setup", timeoutMs: AGENT_LIMITS.setupMs, signal });
    const steps = fields.all(TAGS.STEP_TIME).filter((step) => step.length >= 4);
    const times = steps.map((step): [string, number] => [
      new TextDecoder().decode(step.subarray(4)),
      new DataView(step.buffer, step.byteOffset).getUint32(0, true) / 1000,
    ]);
    await this.#settleClock(config.clockNs, { begunMs, times, signal });
    return Object.fromEntries(times);
  }

  /**
   * The guest's clock is behind by what passed before it was set: no more than the answer took, less the steps after it.
   * Where that is too much, the time is told again.
   */
  async #settleClock(clockNs: bigint, about: { begunMs: number; times: readonly [string, number][]; signal: AbortSignal }): Promise<void> {
    const { begunMs, times, signal } = about;
    const after = times.slice(times.findIndex(([name]) => name === "clock") + 1).reduce((sum, [, ms]) => sum + ms, 0);
    let lateMs = this.#clock.monotonicMs() - begunMs - after;
    for (let attempt = 0; lateMs > AGENT_LIMITS.clockLateMs && attempt < AGENT_LIMITS.clockAttempts; attempt += 1) {
      const askedMs = this.#clock.monotonicMs();
      const nowNs = clockNs + BigInt(Math.round((askedMs - begunMs) * 1e6));
      await this.#send(OPS.CLOCK, encodeTlvs([[TAGS.CLOCK_NS, nowNs]]), { signal, action: "clock" });
      lateMs = this.#clock.monotonicMs() - askedMs;
    }
  }

  async exec(spec: GuestExec, options: Signalled): Promise<void> {
    const commandBytes = [...spec.argv, ...spec.env].reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0);
    const zero = [...spec.argv, ...spec.env, spec.cwd, spec.user].find((text) => text.includes("\0"));
    if (commandBytes > LIMITS.commandBytes)
      throw new KilnError(
        "REQUEST_TOO_LARGE",
        `the command and its environment have ${commandBytes} bytes; the limit is ${LIMITS.commandBytes}`,
      );
    if (zero !== undefined || spec.argv.length === 0)
      throw new KilnError("REQUEST_INVALID", "a command has at least one argument and no zero byte");
    await this.#send(OPS.EXEC, encodeExec(spec), { ...options, action: `exec of ${spec.argv[0]}` });
  }

  async attach(execId: string, { signal }: Signalled): Promise<ExecAttachment> {
    const stream = this.#nextStream++;
    const payload = encodeTlvs([
      [TAGS.EXEC_ID, execId],
      [TAGS.STREAM, stream],
    ]);
    const onReply = (fields: TlvFields): void => this.#begin(stream, execId, fields);
    try {
      await this.#requests.send({
        op: OPS.ATTACH,
        payload,
        action: `attach to ${execId}`,
        timeoutMs: AGENT_LIMITS.requestMs,
        signal,
        onReply,
      });
    } catch (error) {
      if (signal.aborted) await this.#detach(stream);
      throw error;
    }
    const attachment = this.#attachments.get(stream);
    if (attachment === undefined) throw this.#end ?? new KilnError("VM_STATE_CONFLICT", `another reader has attached to ${execId}`);
    return attachment;
  }

  async list(options: Signalled): Promise<readonly ExecStatus[]> {
    const fields = await this.#send(OPS.LIST, new Uint8Array(0), { ...options, action: "list of commands" });
    return fields.all(TAGS.EXEC_INFO).map((info) => statusOf(parseExecInfo(info)));
  }

  async forget(execId: string, options: Signalled): Promise<void> {
    await this.#send(OPS.FORGET, encodeTlvs([[TAGS.EXEC_ID, execId]]), { ...options, action: `forget ${execId}` });
  }

  async sendSignal(execId: string, name: string, options: Signalled): Promise<void> {
    const number = parseSignal(name);
    if (number === null) throw new KilnError("REQUEST_INVALID", `"${name}" is no signal`);
    await this.#send(
      OPS.SIGNAL,
      encodeTlvs([
        [TAGS.EXEC_ID, execId],
        [TAGS.SIGNAL, number],
      ]),
      { ...options, action: `signal to ${execId}` },
    );
  }

  dial(to: GuestPort): GuestConnection {
    if (this.#end !== null) throw this.#end;
    return this.#connections.dial(this.#nextStream++, to);
  }

  async ping(options: Signalled): Promise<void> {
    await this.#send(OPS.PING, new Uint8Array(0), { ...options, action: "ping" });
  }

  async rehearse(config: GuestSetup, slots: { root: number; writable: number }, options: Signalled): Promise<void> {
    const number = (slots.root << 8) | slots.writable;
    const payload = Buffer.concat([encodeSetup(config), encodeTlvs([[TAGS.REHEARSED_SLOTS, number]])]);
    await this.#send(OPS.REHEARSE, payload, { ...options, action: "rehearsal" });
  }

  async prepare(common: GuestPreparation, options: Signalled): Promise<void> {
    const payload = encodeTlvs([
      ...common.modules.map((name): TlvItem => [TAGS.MODULE, name]),
      ...(common.modulesDisk === null ? [] : [[TAGS.DISK_MODULES, common.modulesDisk] as const]),
      [TAGS.DISK_ROOT, common.metDisks.root],
      [TAGS.DISK_WRITABLE, common.metDisks.writable],
      ...(common.network === null ? [] : encodeNetwork(common.network)),
    ]);
    await this.#send(OPS.PREPARE, payload, { ...options, action: "preparation" });
  }

  async sync({ signal }: Signalled): Promise<void> {
    await this.#requests.send({ op: OPS.SYNC, payload: new Uint8Array(0), action: "sync", timeoutMs: AGENT_LIMITS.syncMs, signal });
  }

  async powerOff(graceMs: number, { signal }: Signalled): Promise<void> {
    const payload = encodeTlvs([[TAGS.GRACE_MS, graceMs]]);
    await this.#requests.send({ op: OPS.POWEROFF, payload, action: "power off", timeoutMs: graceMs + AGENT_LIMITS.powerOffMs, signal });
    this.#write(encodeFrame({ type: FRAME_TYPES.BYE, flags: 0, stream: 0, payload: new Uint8Array(0) }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close(new KilnError("CANCELLED", "the session with the agent was closed"));
    await this.closed;
  }

  #send(op: Op, payload: Uint8Array, options: Signalled & { action: string }): Promise<TlvFields> {
    return this.#requests.send({ op, payload, timeoutMs: AGENT_LIMITS.requestMs, ...options });
  }

  /** What is written in one turn goes out at once: each arrival wakes the guest. */
  #write(bytes: Uint8Array): void {
    if (this.#end !== null) return;
    if (!this.#gathers) {
      this.#gathers = true;
      this.#channel.cork();
      queueMicrotask(() => {
        this.#gathers = false;
        this.#channel.uncork();
      });
    }
    this.#channel.write(bytes);
  }

  /** The reply to ATTACH: from here on frames of `stream` are this attachment's, and an earlier one of the command has ended. */
  #begin(stream: number, execId: string, fields: TlvFields): void {
    const info = parseExecInfo(fields.bytes(TAGS.EXEC_INFO));
    if (info.id !== execId) throw new KilnError("GUEST_AGENT_PROTOCOL", `the agent attached to another command than ${execId}`);
    for (const [other, attachment] of this.#attachments) {
      if (attachment.execId !== execId) continue;
      this.#attachments.delete(other);
      attachment.end(new KilnError("VM_STATE_CONFLICT", `another reader has attached to ${execId}`));
    }
    this.#attachments.set(stream, new Attachment(info, this.#link(stream, execId)));
  }

  #link(stream: number, execId: string): AttachmentLink {
    const frame = (type: Frame["type"], flags: number, payload: Uint8Array): void =>
      this.#write(encodeFrame({ type, flags, stream, payload }));
    const resize = (size: { rows: number; cols: number }): TlvItem[] => [
      [TAGS.EXEC_ID, execId],
      [TAGS.TTY, encodeSize(size)],
    ];
    return {
      sendAck: (output, offset) =>
        frame(FRAME_TYPES.ACK, output === "stdout" ? OUTPUT_STREAMS.STDOUT : OUTPUT_STREAMS.STDERR, encodeChunk(offset, new Uint8Array(0))),
      sendStdin: (offset, bytes, end) => frame(FRAME_TYPES.STDIN, end ? 1 : 0, encodeChunk(offset, bytes)),
      resize: async (size) => {
        await this.#send(OPS.RESIZE, encodeTlvs(resize(size)), { signal: NEVER, action: `resize of ${execId}` });
      },
      sendSignal: (name) => this.sendSignal(execId, name, { signal: NEVER }),
      detach: () => this.#detach(stream),
    };
  }

  /** Best effort by nature: a session that has ended is detached already. */
  async #detach(stream: number): Promise<void> {
    this.#attachments.delete(stream);
    if (this.#end !== null) return;
    try {
      await this.#send(OPS.DETACH, encodeTlvs([[TAGS.STREAM, stream]]), { signal: NEVER, action: "detach" });
    } catch (error) {
      if (this.#end === null) throw error;
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#end !== null) return;
    try {
      for (const frame of this.#reader.push(bytes)) this.#dispatch(frame);
    } catch (error) {
      this.#close(
        error instanceof KilnError ? error : new KilnError("GUEST_AGENT_PROTOCOL", "the agent's message cannot be read", { cause: error }),
      );
    }
  }

  #dispatch(frame: Frame): void {
    switch (frame.type) {
      case FRAME_TYPES.REPLY:
        this.#requests.onReply(frame);
        return;
      case FRAME_TYPES.OUTPUT:
        this.#attached(frame)?.onOutput(frame);
        return;
      case FRAME_TYPES.WINDOW:
        this.#attached(frame)?.onWindow(frame);
        return;
      case FRAME_TYPES.EXIT:
        this.#attached(frame)?.onExit(frame);
        return;
      case FRAME_TYPES.DATA:
      case FRAME_TYPES.CREDIT:
      case FRAME_TYPES.RESET:
        if (this.#attached(frame) !== null)
          throw new KilnError("GUEST_AGENT_PROTOCOL", "the agent sent data of a connection for a command");
        this.#connections.onFrame(frame);
        return;
      case FRAME_TYPES.HELLO_ACK: // the answer to a HELLO that was doubled on its way
        return;
      default:
        throw new KilnError("GUEST_AGENT_PROTOCOL", `the agent sent a frame of the host's type ${frame.type}`);
    }
  }

  /** null for a number whose attachment has ended: such frames were on their way. */
  #attached(frame: Frame): Attachment | null {
    if (frame.stream === 0 || frame.stream >= this.#nextStream)
      throw new KilnError("GUEST_AGENT_PROTOCOL", `the agent sent a frame of stream ${frame.stream}, which was never attached`);
    return this.#attachments.get(frame.stream) ?? null;
  }

  #close(error: KilnError): void {
    if (this.#end !== null) return;
    this.#end = error;
    this.#channel.destroy();
    this.#requests.close(error);
    this.#connections.close(error);
    for (const attachment of this.#attachments.values()) attachment.end(error);
    this.#attachments.clear();
    this.#closed.resolve();
  }
}
