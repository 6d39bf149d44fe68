/** A registry on the loopback that does what a test tells it to: well by default, and in every way badly. */
import { once } from "node:events";
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { MEDIA_TYPES } from "@kiln/formats/oci";
import { type Digest, isDigest } from "@kiln/protocol";
import { digestOf, type TestImage } from "./pulling.ts";

/** A request as the server saw it. */
export interface Asked {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array;
  /** Ends the connection once so many bytes of the body are out; -1 before any head. */
  readonly cutAfter?: number;
  /** Says nothing more once so many bytes of the body are out, and keeps the connection; -1 before any head. */
  readonly stallAfter?: number;
  /** The body in such pieces, with such pauses. */
  readonly trickle?: { readonly bytes: number; readonly everyMs: number };
  /** These bytes instead of all. */
  readonly raw?: string;
  /** Kept until this resolves. */
  readonly after?: Promise<unknown>;
  /** No length is told; the body ends with its last chunk. */
  readonly isChunked?: boolean;
}

const CUT_MS = 20;

/** Changes what an honest registry would reply. */
export type Script = (asked: Asked, honest: Reply) => Reply | Promise<Reply>;

export interface ScriptedOptions {
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer; readonly ca?: Buffer };
  /** Where it listens. */
  readonly address?: string;
  /** By default a free one. */
  readonly port?: number;
}

export class ScriptedRegistry implements AsyncDisposable {
  /** All requests since the start or the last assignment. */
  asked: Asked[] = [];
  script: Script = (_asked, honest) => honest;
  /** The most requests for blobs that were being answered at once. */
  busiest = 0;
  readonly #server: Server;
  readonly #scheme: "http" | "https";
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #manifests = new Map<string, { readonly bytes: Uint8Array; readonly mediaType: string }>();
  readonly #sockets = new Set<Socket>();
  #busy = 0;
  #address: AddressInfo = { address: "", family: "", port: 0 };

  private constructor(options: ScriptedOptions) {
    const take = (request: IncomingMessage, response: ServerResponse): void => {
      this.#answer(request, response).catch((error: Error) => response.destroy(error));
    };
    const { tls } = options;
    this.#scheme = tls === undefined ? "http" : "https";
    this.#server =
      tls === undefined
        ? createHttpServer(take)
        : createHttpsServer({ ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: tls.ca !== undefined }, take);
    this.#server.keepAliveTimeout = 0;
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => socket.destroy());
    });
  }

  static async start(options: ScriptedOptions = {}): Promise<ScriptedRegistry> {
    const registry = new ScriptedRegistry(options);
    registry.#server.listen(options.port ?? 0, options.address ?? "127.0.0.1");
    await once(registry.#server, "listening");
    registry.#address = registry.#server.address() as AddressInfo;
    return registry;
  }

  get port(): number {
    return this.#address.port;
  }

  get host(): string {
    const { address, family, port } = this.#address;
    return `${family === "IPv6" ? `[${address}]` : address}:${port}`;
  }

  get url(): string {
    return `${this.#scheme}://${this.host}`;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** `METHOD path` of what was asked since the last assignment to `asked`. */
  get lines(): readonly string[] {
    return this.asked.map(({ method, path }) => `${method} ${path}`);
  }

  /** How often something was asked for, by the end of its path. */
  count(end: string): number {
    return this.asked.filter(({ path }) => path.endsWith(end)).length;
  }

  /** Serves an image under a repository and a tag. */
  serve(repository: string, tag: string, image: TestImage): void {
    for (const [digest, bytes] of image.blobs) this.#blobs.set(`${repository} ${digest}`, bytes);
    this.serveManifest(repository, tag, { bytes: image.manifest });
  }

  /** Serves a document under a tag and its digest; the bytes may be anything. */
  serveManifest(repository: string, tag: string, document: { readonly bytes: Uint8Array; readonly mediaType?: string }): Digest {
    const kept = { bytes: document.bytes, mediaType: document.mediaType ?? MEDIA_TYPES.manifest };
    const digest = digestOf(document.bytes);
    for (const reference of [tag, digest]) this.#manifests.set(`${repository} ${reference}`, kept);
    return digest;
  }

  /** Whoever asks after this finds nobody. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Resolves when no connection is open; fails if one stays. */
  async untilIdle(): Promise<void> {
    for (let turn = 0; turn < 400 && this.#sockets.size > 0; turn += 1) await sleep(5);
    if (this.#sockets.size > 0) throw new Error(`${this.#sockets.size} connections are left`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://registry");
    const { method = "GET", headers } = request;
    const asked = { method, path: url.pathname, query: url.searchParams, headers, body: await text(request) };
    this.asked.push(asked);
    const isBlob = url.pathname.includes("/blobs/");
    if (isBlob) this.#busy += 1;
    this.busiest = Math.max(this.busiest, this.#busy);
    response.on("close", () => {
      if (isBlob) this.#busy -= 1;
    });
    const reply = await this.script(asked, this.#honest(asked));
    await reply.after;
    await send(asked, reply, response);
  }

  #honest({ path, headers }: Asked): Reply {
    const [, repository = "", kind, reference = ""] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(path) ?? [];
    const key = `${repository} ${reference}`;
    const manifest = this.#manifests.get(key);
    if (kind === "manifests" && manifest !== undefined) {
      return {
        status: 200,
        headers: { "content-type": manifest.mediaType, "docker-content-digest": digestOf(manifest.bytes) },
        body: manifest.bytes,
      };
    }
    const blob = this.#blobs.get(key);
    if (kind === "blobs" && blob !== undefined && isDigest(reference)) return ranged(blob, headers.range);
    return refusal(404, kind === "blobs" ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN", "it is unknown here");
  }
}

/** A refusal in the form of the distribution specification. */
export const refusal = (status: number, code: string, message: string): Reply => ({
  status,
  headers: { "content-type": "application/json" },
  body: Buffer.from(JSON.stringify({ errors: [{ code, message }] })),
});

const ranged = (blob: Uint8Array, range: string | undefined): Reply => {
  const type = { "content-type": "application/octet-stream" };
  const [, start] = /^bytes=(\d+)-$/.exec(range ?? "") ?? [];
  if (start === undefined) return { status: 200, headers: type, body: blob };
  const from = Number(start);
  if (from >= blob.length) return { status: 416, headers: { "content-range": `bytes */${blob.length}` } };
  return {
    status: 206,
    headers: { ...type, "content-range": `bytes ${from}-${blob.length - 1}/${blob.length}` },
    body: blob.subarray(from),
  };
};

const send = async (asked: Asked, reply: Reply, response: ServerResponse): Promise<void> => {
  const { status, headers = {}, body = new Uint8Array(0), cutAfter, stallAfter, trickle } = reply;
  if (reply.raw !== undefined) {
    response.socket?.end(reply.raw, "latin1");
    return;
  }
  if (cutAfter === -1) {
    response.socket?.destroy();
    return;
  }
  if (stallAfter === -1) return;
  const length = reply.isChunked === true ? {} : { "content-length": String(body.length) };
  response.writeHead(status, { ...length, ...headers } as Record<string, string | string[]>);
  if (asked.method === "HEAD") {
    response.end();
    return;
  }
  const end = cutAfter ?? stallAfter;
  if (end === undefined && trickle === undefined) {
    response.end(body);
    return;
  }
  response.flushHeaders();
  const part = body.subarray(0, end ?? body.length);
  for (let at = 0; at < part.length && !response.destroyed; at += trickle?.bytes ?? part.length) {
    await writeAll(response, part.subarray(at, at + (trickle?.bytes ?? part.length)));
    if (trickle !== undefined) await sleep(trickle.everyMs);
  }
  if (cutAfter !== undefined) {
    // what is on its way arrives first
    await sleep(CUT_MS);
    response.socket?.destroy();
  } else if (stallAfter === undefined) response.end();
};

const writeAll = (response: ServerResponse, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve) => {
    if (response.destroyed) resolve();
    else response.write(bytes, () => resolve());
  });
