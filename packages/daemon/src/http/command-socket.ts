import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import {
  asKilnError,
  clientMessage,
  encodeDataFrame,
  execRequest,
  KilnError,
  LIMITS,
  parseDataFrame,
  type ServerMessage,
  STDIN_WINDOW_BYTES,
  toProblem,
} from "@kiln/protocol";
import { abortable } from "@kiln/std";
import { z } from "zod";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import type { Core } from "../operations/core.ts";
import { attachToVm, type CommandStream, execInVm, guestOfExec } from "../operations/stream-vm.ts";
import { parseWith } from "./parse.ts";

const PATH = /^\/v1\/vms\/([^/?]+)\/(exec|attach)(?:\?(.*))?$/;
/** `epoch=` of an attach: the boot whose command it is, which may be yet to come. */
const EPOCH = z.coerce.number().int().min(1).nullable();
/** A client that takes nothing is not sent more than this ahead. */
const SEND_AHEAD_BYTES = 1 << 20;
/** RFC 6455 close codes. */
const CLOSE = { normal: 1000 } as const;
/** Both sides said goodbye, so all that was sent before has arrived: with a code, or without one. */
const GRACEFUL: ReadonlySet<number> = new Set([1000, 1005]);

interface Target {
  readonly vm: string;
  readonly kind: "exec" | "attach";
  readonly query: URLSearchParams;
}

/** null where the path is none of ours or not well-formed. */
const parseTarget = (url: string): Target | null => {
  const [, vm, kind, query = ""] = PATH.exec(url) ?? [];
  if (vm === undefined) return null;
  try {
    return { vm: decodeURIComponent(vm), kind: kind === "exec" ? "exec" : "attach", query: new URLSearchParams(query) };
  } catch (error) {
    if (error instanceof URIError) return null;
    throw error;
  }
};

export interface CommandSockets {
  /** For a server's `upgrade` event. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Breaks every connection, as a crash would: clients come back to the next daemon and go on. */
  terminate(): void;
}

/** exec and attach: WebSockets with the messages of protocol/streams.ts. */
export const createCommandSockets = (core: Core): CommandSockets => {
  const server = new WebSocketServer({ noServer: true, maxPayload: LIMITS.requestBytes });
  return {
    upgrade: (request, socket, head) => {
      socket.on("error", () => socket.destroy());
      const target = parseTarget(request.url ?? "");
      if (target === null) {
        socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
      }
      // the answer and the first message in one piece
      socket.cork();
      server.handleUpgrade(request, socket, head, (client) => void serve(core, { client, socket }, target));
      socket.uncork();
    },
    terminate: () => {
      for (const client of server.clients) client.terminate();
    },
  };
};

const serve = async (core: Core, { client, socket }: { client: WebSocket; socket: Duplex }, target: Target): Promise<void> => {
  const left = new AbortController();
  const closed = new Promise<number>((resolve) => client.once("close", resolve));
  void closed.then(() => left.abort(new KilnError("CANCELLED", "the client has gone")));
  client.on("error", () => client.terminate());
  const input = new ClientInput(client);
  try {
    const command = await openCommand(core, { client, input }, { ...target, signal: left.signal });
    let delivered = false;
    try {
      send(client, { type: "started", stdinOffset: command.stdinOffset });
      input.forwardTo(command, left.signal);
      for await (const chunk of command.output) await sendBytes(client, encodeDataFrame(chunk), left.signal);
      const { exitCode, signal, oomKilled } = await command.exit;
      // the last two messages in one piece
      socket.cork();
      send(client, { type: "exit", exitCode, signal, oomKilled });
      client.close(CLOSE.normal);
      socket.uncork();
      delivered = GRACEFUL.has(await closed);
    } finally {
      await command.leave(delivered);
    }
  } catch (thrown) {
    if (!left.signal.aborted) fail(client, thrown);
  }
};

const openCommand = async (
  core: Core,
  { client, input }: { client: WebSocket; input: ClientInput },
  target: Target & { signal: AbortSignal },
): Promise<CommandStream> => {
  const { vm, signal } = target;
  if (target.kind === "attach") return attachToVm(core, vm, { epoch: parseWith(EPOCH, target.query.get("epoch")), signal });
  const guest = guestOfExec(core, vm);
  if (guest !== null) send(client, { type: "guest", ...guest });
  const request = parseWith(execRequest, await input.first(signal));
  // what the client was told holds, whoever has the name by now
  return execInVm(core, guest?.vm ?? vm, { request: { ...request, epoch: request.epoch ?? guest?.epoch ?? null }, signal });
};

const parseJson = (data: Uint8Array): unknown => {
  try {
    return JSON.parse(Buffer.from(data).toString("utf8"));
  } catch (error) {
    throw new KilnError("REQUEST_INVALID", "a text message is not JSON", { cause: error });
  }
};

interface Message {
  readonly data: Uint8Array;
  readonly isBinary: boolean;
}

/**
 * What a client sends. Control messages act at once; stdin waits its turn in a window, so that a guest that does not
 * read it holds back neither a signal nor anybody else.
 */
class ClientInput {
  readonly #client: WebSocket;
  readonly #early: Message[] = [];
  #onMessage: (message: Message) => void = (message) => this.#early.push(message);
  #pendingBytes = 0;
  #takenBytes = 0;
  #stdin: Promise<void> = Promise.resolve();

  constructor(client: WebSocket) {
    this.#client = client;
    client.on("message", (data: RawData, isBinary: boolean) => {
      const message = { data: toBytes(data), isBinary };
      this.#pendingBytes += message.data.length;
      if (this.#pendingBytes > STDIN_WINDOW_BYTES + LIMITS.requestBytes)
        fail(client, new KilnError("REQUEST_INVALID", "more stdin was sent than the window allows"));
      else this.#onMessage(message);
    });
  }

  /** The first message, as JSON. */
  async first(signal: AbortSignal): Promise<unknown> {
    const early = this.#early.shift();
    const arrived = Promise.withResolvers<Message>();
    if (early === undefined) this.#onMessage = arrived.resolve;
    const message = early ?? (await abortable(arrived.promise, signal));
    this.#onMessage = (later) => this.#early.push(later);
    this.#pendingBytes -= message.data.length;
    if (message.isBinary) throw new KilnError("REQUEST_INVALID", "an exec begins with its request as text");
    return parseJson(message.data);
  }

  forwardTo(command: CommandStream, signal: AbortSignal): void {
    this.#takenBytes = command.stdinOffset ?? 0;
    const forward = (message: Message): void => {
      this.#forward(command, message, signal).catch((error: unknown) => {
        if (!signal.aborted) fail(this.#client, error);
      });
    };
    for (const message of this.#early.splice(0)) forward(message);
    this.#onMessage = forward;
  }

  async #forward(command: CommandStream, message: Message, signal: AbortSignal): Promise<void> {
    if (message.isBinary) return this.#enqueue(async () => this.#writeStdin(command, message, signal));
    this.#pendingBytes -= message.data.length;
    const control = parseWith(clientMessage, parseJson(message.data));
    if (control.type === "ack") command.acknowledge(control.stream, control.offset);
    else if (control.type === "resize") await command.resize(control);
    else if (control.type === "signal") await command.sendSignal(control.signal);
    else await this.#enqueue(() => command.closeStdin());
  }

  #enqueue(step: () => Promise<void>): Promise<void> {
    this.#stdin = this.#stdin.then(step);
    return this.#stdin;
  }

  async #writeStdin(command: CommandStream, message: Message, signal: AbortSignal): Promise<void> {
    const frame = parseDataFrame(message.data);
    if (frame.stream !== "stdin") throw new KilnError("REQUEST_INVALID", "a client sends stdin only");
    await command.writeStdin(frame.bytes, { signal });
    this.#pendingBytes -= message.data.length;
    this.#takenBytes += frame.bytes.length;
    send(this.#client, { type: "stdin-ack", offset: this.#takenBytes });
  }
}

const fail = (client: WebSocket, thrown: unknown): void => {
  send(client, { type: "error", problem: toProblem(asKilnError(thrown)) });
  client.close(CLOSE.normal);
};

const toBytes = (data: RawData): Uint8Array => {
  if (Array.isArray(data)) return Buffer.concat(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
};

const send = (client: WebSocket, message: ServerMessage): void => {
  if (client.readyState === client.OPEN) client.send(JSON.stringify(message));
};

/** Resolves at once while the client keeps up, else when the bytes have gone out. */
const sendBytes = async (client: WebSocket, bytes: Uint8Array, signal: AbortSignal): Promise<void> => {
  signal.throwIfAborted();
  const sent = new Promise<void>((resolve) => client.send(bytes, () => resolve()));
  if (client.bufferedAmount > SEND_AHEAD_BYTES) await sent;
};
