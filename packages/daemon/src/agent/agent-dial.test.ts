import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { KilnError } from "@kiln/protocol/errors";
import { WIRE } from "@kiln/protocol/wire";
import { systemClock, systemRandom } from "@kiln/std";
import { noIpv6 } from "../forward/testing/clients.ts";
import type { AgentSession, GuestConnection } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";
import { collect, execSpec, setupOf, TestAgent } from "./test-guest.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
const MIB = 2 ** 20;

const ready = async (context: TestContext): Promise<{ agent: TestAgent; session: AgentSession }> => {
  const agent = await TestAgent.start();
  context.after(() => agent[Symbol.asyncDispose]());
  const session = await connector.connect(await agent.dial(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  return { agent, session };
};

/** A server on a port of its own, as a process in the guest has it; what is connected to it ends with the test. */
const listen = async (
  context: TestContext,
  serve: (socket: Socket) => void,
  host = "127.0.0.1",
): Promise<{ port: number; server: Server; sockets: Set<Socket> }> => {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined); // a reset is what some tests are about
    socket.on("close", () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, host);
  await once(server, "listening");
  context.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return { port: address.port, server, sockets };
};

const echo = (socket: Socket): void => void socket.pipe(socket);

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Everything up to the guest's end. */
const readAll = async (connection: GuestConnection): Promise<Buffer> => {
  const parts: Uint8Array[] = [];
  for (let bytes = await connection.read(); bytes !== null; bytes = await connection.read()) parts.push(bytes);
  return Buffer.concat(parts);
};

const dialTcp = (session: AgentSession, port: number): GuestConnection => session.dial({ protocol: "tcp", port });

test("eight megabytes go into the guest and come back as they were", async (context) => {
  const { session } = await ready(context);
  const { port } = await listen(context, echo);
  using connection = dialTcp(session, port);
  const bytes = randomBytes(8 * MIB);
  const writing = connection.write(bytes).then(() => connection.end());
  const back = await readAll(connection);
  await writing;
  assert.equal(sha256(back), sha256(bytes));
});

test("each direction ends by itself: a request, its end, then the answer, and the other way round", async (context) => {
  const { session } = await ready(context);
  const asked = await listen(context, (socket) => {
    const parts: Buffer[] = [];
    socket.on("data", (part: Buffer) => parts.push(part));
    socket.on("end", () => socket.end(`got ${Buffer.concat(parts).length} bytes`));
  });
  using asking = dialTcp(session, asked.port);
  await asking.write(Buffer.from("question"));
  asking.end();
  assert.equal((await readAll(asking)).toString(), "got 8 bytes");

  const heard = Promise.withResolvers<string>();
  const teller = await listen(context, (socket) => {
    socket.end("hello");
    let text = "";
    socket.on("data", (part) => (text += String(part)));
    socket.on("end", () => heard.resolve(text));
  });
  using told = dialTcp(session, teller.port);
  assert.equal((await readAll(told)).toString(), "hello");
  await told.write(Buffer.from("and goodbye"));
  told.end();
  assert.equal(await heard.promise, "and goodbye");
});

test("two hundred connections at once each get their own bytes", async (context) => {
  const { session } = await ready(context);
  const { port } = await listen(context, echo);
  const talk = async (index: number): Promise<void> => {
    using connection = dialTcp(session, port);
    const bytes = Buffer.alloc(20_000, `connection ${index} `);
    const back = readAll(connection);
    await connection.write(bytes);
    connection.end();
    assert.equal(sha256(await back), sha256(bytes));
  };
  await Promise.all(Array.from({ length: 200 }, (_, index) => talk(index)));
  await session.ping({ signal });
});

test("readers that read nothing, here and in the guest, hold up neither a command nor another connection", async (context) => {
  const { session } = await ready(context);
  const flood = await listen(context, (socket) => {
    const more = (): void => {
      while (socket.writable && socket.write(Buffer.alloc(65_536)));
    };
    socket.on("drain", more);
    more();
  });
  const deaf = await listen(context, (socket) => socket.pause());
  const stuck = Array.from({ length: 20 }, () => dialTcp(session, flood.port));
  const writers = Array.from({ length: 20 }, () => dialTcp(session, deaf.port));
  const unfinished = Promise.allSettled(writers.map((writer) => writer.write(Buffer.alloc(64 * MIB))));
  await Promise.all([...stuck, ...writers].map((connection) => connection.opened));
  const { port } = await listen(context, echo);
  const begun = systemClock.monotonicMs();
  const { stdout } = await collect(session, execSpec({ id: "e", argv: ["/bin/echo", "on time"] }));
  using connection = dialTcp(session, port);
  await connection.write(Buffer.from("me too"));
  connection.end();
  assert.equal((await readAll(connection)).toString(), "me too");
  assert.equal(stdout, "on time\n");
  assert.ok(systemClock.monotonicMs() - begun < 10_000);
  for (const one of [...stuck, ...writers]) one[Symbol.dispose]();
  assert.ok((await unfinished).every(({ status }) => status === "rejected"));
  await session.ping({ signal });
});

test("where nothing listens the guest says so", async (context) => {
  const { session } = await ready(context);
  const gone = await listen(context, echo);
  gone.server.close();
  using refused = dialTcp(session, gone.port);
  await assert.rejects(refused.opened, { code: "VM_STATE_CONFLICT", message: /nothing takes connections on port \d+: ECONNREFUSED/ });
  await assert.rejects(refused.read(), { code: "VM_STATE_CONFLICT" });
  await assert.rejects(refused.write(Buffer.from("x")), { code: "VM_STATE_CONFLICT" });
});

test("a port that listens on ::1 alone is found", { skip: noIpv6() }, async (context) => {
  const { session } = await ready(context);
  const v6 = await listen(context, echo, "::1");
  using connection = dialTcp(session, v6.port);
  await connection.write(Buffer.from("six"));
  connection.end();
  assert.equal((await readAll(connection)).toString(), "six");
});

test("a reset goes through in both directions", async (context) => {
  const { session } = await ready(context);
  const resetting = await listen(context, (socket) => void socket.once("data", () => socket.resetAndDestroy()));
  using broken = dialTcp(session, resetting.port);
  await broken.write(Buffer.from("go"));
  await assert.rejects(readAll(broken), { code: "INTERRUPTED" });

  const seen = Promise.withResolvers<string | undefined>();
  const watching = await listen(context, (socket) =>
    socket.on("error", (error) => seen.resolve("code" in error ? String(error.code) : error.message)),
  );
  const breaking = dialTcp(session, watching.port);
  await breaking.opened;
  breaking[Symbol.dispose]();
  assert.equal(await seen.promise, "ECONNRESET");
  await assert.rejects(breaking.read(), { code: "CANCELLED" });
});

test("one connection over the limit is refused, and there is room again when one has gone", async (context) => {
  const { session } = await ready(context);
  const { port } = await listen(context, (socket) => socket.pause());
  const open = Array.from({ length: WIRE.connections }, () => dialTcp(session, port));
  await Promise.all(open.map((connection) => connection.opened));
  assert.throws(() => dialTcp(session, port), { code: "QUEUE_FULL", message: /512 connections are open already/ });
  open[0]?.[Symbol.dispose]();
  await session.ping({ signal });
  using another = dialTcp(session, port);
  await another.opened;
  for (const connection of open) connection[Symbol.dispose]();
});

test("connections end with their session, and the next one has none", async (context) => {
  const { agent, session } = await ready(context);
  const { port, sockets } = await listen(context, echo);
  const connection = dialTcp(session, port);
  await connection.opened;
  const next = await connector.connect(await agent.dial(), { epoch: 1, signal });
  await assert.rejects(connection.read(), KilnError);
  while (sockets.size > 0) await systemClock.sleep(10, { signal });
  using again = dialTcp(next, port);
  await again.opened;
});

test("datagrams keep their boundaries, the empty and the largest one too", async (context) => {
  const { session } = await ready(context);
  const server = createSocket("udp4");
  context.after(() => server.close());
  server.on("message", (message, from) => server.send(message, from.port, from.address));
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
  using connection = session.dial({ protocol: "udp", port: server.address().port });
  for (const size of [1, 0, 1400, 20_000, WIRE.datagramBytes]) {
    const bytes = randomBytes(size);
    await connection.write(bytes);
    const back = await connection.read();
    assert.equal(back?.length, size);
    assert.equal(sha256(back), sha256(bytes));
  }
  await session.ping({ signal });
});

test("datagrams find whoever listens on ::1 alone, and what finds nobody is lost without a trace", { skip: noIpv6() }, async (context) => {
  const { session } = await ready(context);
  const server = createSocket("udp6");
  await new Promise<void>((resolve) => server.bind(0, "::1", resolve));
  const { port } = server.address();
  using connection = session.dial({ protocol: "udp", port });
  const came = once(server, "message");
  await connection.write(Buffer.from("six"));
  assert.equal(String((await came)[0]), "six");
  await new Promise<void>((resolve) => server.close(resolve));
  for (let index = 0; index < 5; index += 1) await connection.write(Buffer.from("nobody"));
  await session.ping({ signal });
  const later = createSocket("udp4");
  context.after(() => later.close());
  await new Promise<void>((resolve) => later.bind(port, "127.0.0.1", resolve));
  const found = once(later, "message");
  await connection.write(Buffer.from("four"));
  assert.equal(String((await found)[0]), "four");
});

test("a guest that is paused takes its connections when it goes on, with what was written meanwhile", async (context) => {
  const { agent, session } = await ready(context);
  const { port } = await listen(context, echo);
  process.kill(agent.pid, "SIGSTOP");
  using connection = dialTcp(session, port);
  await connection.write(Buffer.from("early"));
  connection.end();
  const reading = readAll(connection);
  assert.equal(await Promise.race([reading.then(() => "answered"), systemClock.sleep(300, { signal }).then(() => "waits")]), "waits");
  process.kill(agent.pid, "SIGCONT");
  assert.equal((await reading).toString(), "early");
});
