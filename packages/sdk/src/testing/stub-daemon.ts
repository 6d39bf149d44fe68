import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { type ErrorCode, KilnError, toProblem } from "@kiln/protocol/errors";
import { encodeDataFrame, LENGTH_PREFIX_BYTES, type DataFrame, type ServerMessage } from "@kiln/protocol/streams";
import { longSocketPath } from "@kiln/std/node";

export interface StubRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The groups of the route's pattern, decoded. */
  readonly groups: readonly string[];
}

/** What a scripted daemon answers: JSON, bytes, a problem, or nothing but a broken connection. */
export type StubAnswer =
  | { readonly json: unknown; readonly status?: number }
  | { readonly bytes: Uint8Array; readonly thenBreak?: boolean }
  | { readonly problem: ErrorCode; readonly detail: string }
  | "break"
  | "hang";

type Handler = (request: StubRequest) => StubAnswer | Promise<StubAnswer>;

interface Route {
  readonly method: string;
  readonly pattern: RegExp;
  readonly handle: Handler;
}

/** A daemon for tests of clients: real HTTP and WebSockets on a Unix socket, answers from a script. */
export class StubDaemon implements AsyncDisposable {
  readonly home: string;
  readonly socketPath: string;
  readonly requests: StubRequest[] = [];
  readonly #server: Server;
  readonly #routes: Route[] = [];
  readonly #sockets: { readonly pattern: RegExp; readonly handle: (client: WebSocket, request: StubRequest) => void }[] = [];
  readonly #upgrades = new WebSocketServer({ noServer: true });
  readonly #connections = new Set<Duplex>();
  readonly #end: () => Promise<void>;

  private constructor(home: string, server: Server, end: () => Promise<void>) {
    this.home = home;
    this.socketPath = join(home, "kiln.sock");
    this.#server = server;
    this.#end = end;
  }

  /** `homeName` is the directory's name below a fresh temporary one. */
  static async listen(homeName = "home"): Promise<StubDaemon> {
    const root = await mkdtemp(join(tmpdir(), "kiln-stub-"));
    const home = join(root, homeName);
    const { mkdir } = await import("node:fs/promises");
    await mkdir(home, { recursive: true, mode: 0o700 });
    const server = createServer();
    const bound = longSocketPath(join(home, "kiln.sock"));
    const stub = new StubDaemon(home, server, async () => {
      bound[Symbol.dispose]();
      await rm(root, { recursive: true, force: true });
    });
    server.on("request", (request, response) => void stub.#answer(request, response));
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => stub.#upgrade(request, { socket, head }));
    server.on("connection", (socket: Duplex) => {
      stub.#connections.add(socket);
      socket.on("close", () => stub.#connections.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(bound.path, resolve));
    return stub;
  }

  /** Later routes come first, so that a test replaces what its set-up says. */
  on(method: string, pattern: RegExp | string, handle: Handler): this {
    this.#routes.unshift({ method, pattern: typeof pattern === "string" ? exactly(pattern) : pattern, handle });
    return this;
  }

  onSocket(pattern: RegExp | string, handle: (client: WebSocket, request: StubRequest) => void): this {
    this.#sockets.unshift({ pattern: typeof pattern === "string" ? exactly(pattern) : pattern, handle });
    return this;
  }

  /** The requests of one kind, oldest first. */
  calls(method: string, path: string): StubRequest[] {
    return this.requests.filter((request) => request.method === method && request.path === path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    await this.#end();
  }

  async #answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
    } catch {
      return; // the client under test left in the middle of its request
    }
    const { path, query } = target(incoming);
    const route = this.#routes.find((one) => one.method === incoming.method && one.pattern.test(path));
    const groups = (route?.pattern.exec(path) ?? []).slice(1).map(decodeURIComponent);
    const request: StubRequest = {
      method: incoming.method ?? "",
      path,
      query,
      headers: incoming.headers,
      body: Buffer.concat(chunks),
      groups,
    };
    this.requests.push(request);
    const answer: StubAnswer =
      route === undefined ? { problem: "NOT_FOUND", detail: `no route ${request.method} ${path}` } : await route.handle(request);
    if (answer === "break") incoming.socket.destroy();
    else if (answer !== "hang") respond(response, answer);
  }

  #upgrade(incoming: IncomingMessage, { socket, head }: { readonly socket: Duplex; readonly head: Buffer }): void {
    const { path, query } = target(incoming);
    const found = this.#sockets.find(({ pattern }) => pattern.test(path));
    if (found === undefined) {
      socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
      return;
    }
    const groups = (found.pattern.exec(path) ?? []).slice(1).map(decodeURIComponent);
    const request: StubRequest = { method: "UPGRADE", path, query, headers: incoming.headers, body: Buffer.alloc(0), groups };
    this.requests.push(request);
    this.#upgrades.handleUpgrade(incoming, socket, head, (client) => found.handle(client, request));
  }
}

const exactly = (path: string): RegExp => new RegExp(`^${path.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);

const target = (incoming: IncomingMessage): { readonly path: string; readonly query: URLSearchParams } => {
  const url = new URL(incoming.url ?? "/", "http://stub");
  return { path: url.pathname, query: url.searchParams };
};

const respond = (response: ServerResponse, answer: Exclude<StubAnswer, string>): void => {
  if ("problem" in answer) {
    const problem = toProblem(new KilnError(answer.problem, answer.detail));
    response.writeHead(problem.status, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
  } else if ("bytes" in answer) {
    response.writeHead(200, { "content-type": "application/octet-stream" });
    response.write(answer.bytes, () => (answer.thenBreak === true ? response.socket?.destroy() : response.end()));
  } else {
    const status = answer.status ?? 200;
    response.writeHead(status, { "content-type": "application/json" }).end(status === 204 ? undefined : JSON.stringify(answer.json));
  }
};

/** Sends a control message as the daemon does. */
export const sendMessage = (client: WebSocket, message: ServerMessage): void => client.send(JSON.stringify(message));

export const sendOutput = (
  client: WebSocket,
  stream: "stdout" | "stderr",
  output: { readonly offset: number; readonly text: string },
): void => client.send(encodeDataFrame({ stream, offset: output.offset, bytes: new TextEncoder().encode(output.text) }));

/** Frames as a log's body has them. */
export const logBody = (frames: readonly DataFrame[]): Buffer =>
  Buffer.concat(
    frames.flatMap((frame) => {
      const encoded = encodeDataFrame(frame);
      const length = Buffer.alloc(LENGTH_PREFIX_BYTES);
      length.writeUInt32LE(encoded.length);
      return [length, encoded];
    }),
  );
