import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FakeClock, systemClock } from "@kiln/std";
import { isVmmFailed } from "../driver.contract.ts";
import { VMM_LIMITS } from "../limits.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";
import { connectSocket } from "./sockets.ts";

const GREETING = '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}\r\n';
const signal = AbortSignal.timeout(120_000);

interface Peer extends AsyncDisposable {
  readonly socket: Socket;
  /** The next command that the client sends. */
  readonly next: () => Promise<{ execute: string; id: number; arguments: unknown }>;
  readonly answer: (text: string) => void;
  readonly client: Promise<QmpClient>;
  readonly events: QmpEvent[];
}

/** A monitor whose every word the test writes. */
const openPeer = async (clock = systemClock): Promise<Peer> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-qmp-"));
  const path = join(directory, "qmp.sock");
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer(accepted.resolve);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const events: QmpEvent[] = [];
  const own = await connectSocket(path, { clock: systemClock, signal });
  const client = QmpClient.open(own, { clock, signal, onEvent: (event) => events.push(event) });
  client.catch(() => undefined);
  const socket = await accepted.promise;
  const lines = readLines(socket);
  return {
    ...{ socket, client, events, answer: (text) => void socket.write(text) },
    next: async () => JSON.parse((await lines.next()).value ?? "") as Awaited<ReturnType<Peer["next"]>>,
    [Symbol.asyncDispose]: async () => {
      own.destroy();
      socket.destroy();
      server.close();
      await rm(directory, { recursive: true });
    },
  };
};

async function* readLines(socket: Socket): AsyncGenerator<string, undefined> {
  let text = "";
  for await (const chunk of socket) {
    text += String(chunk);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
  return undefined;
}

const greet = async (peer: Peer): Promise<QmpClient> => {
  peer.answer(GREETING);
  const hello = await peer.next();
  assert.equal(hello.execute, "qmp_capabilities");
  peer.answer(`{"return": {}, "id": ${hello.id}}\r\n`);
  return peer.client;
};

describe("the QMP client", () => {
  test("commands that overlap find their own replies, and events pass between them", async () => {
    await using peer = await openPeer();
    const client = await greet(peer);
    const both = Promise.all([client.run("one", {}, { signal }), client.run("two", { x: 1 }, { signal })]);
    const [one, two] = [await peer.next(), await peer.next()];
    assert.deepEqual([one.execute, two.execute, two.arguments], ["one", "two", { x: 1 }]);
    const text = `{"return": "2", "id": ${two.id}}\r\n{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {}}\r\n{"return": "1", "id": ${one.id}}\r\n`;
    for (const character of text) peer.answer(character);
    assert.deepEqual(await both, ["1", "2"]);
    assert.deepEqual(peer.events, [{ name: "SHUTDOWN", data: { guest: true, reason: "guest-reset" } }]);
  });

  test("I20 a refusal carries QEMU's class and words, and the connection lives on", async () => {
    await using peer = await openPeer();
    const client = await greet(peer);
    const refused = client.run("cont", {}, { signal });
    const { id } = await peer.next();
    peer.answer(`{"id": ${id}, "error": {"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}}\n`);
    await assert.rejects(refused, /QEMU refused cont: Resetting the Virtual Machine is required \(GenericError\)/);
    const answered = client.run("stop", {}, { signal });
    peer.answer(`{"return": {}, "id": ${(await peer.next()).id}}\n`);
    assert.deepEqual(await answered, {});
  });

  const hostile: Readonly<Record<string, string>> = {
    "no JSON": "hello\n",
    "JSON that is no message": "[1, 2]\n",
    "an answer that nobody asked for": '{"return": {}, "id": 4711}\n',
    "an error that belongs to no command": '{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}\n',
    "a line without end": "x".repeat(VMM_LIMITS.qmpLineBytes + 1),
  };
  for (const [what, bytes] of Object.entries(hostile)) {
    test(`${what} ends the connection and every command that waits`, async () => {
      await using peer = await openPeer();
      const client = await greet(peer);
      const waiting = [client.run("one", {}, { signal }), client.run("two", {}, { signal })];
      peer.answer(bytes);
      for (const one of await Promise.allSettled(waiting)) assert.ok(one.status === "rejected" && isVmmFailed(one.reason));
      await client.closed;
      await assert.rejects(client.run("three", {}, { signal }), isVmmFailed);
    });
  }

  test("a monitor that goes away before its greeting is an error", async () => {
    await using peer = await openPeer();
    peer.socket.destroy();
    await assert.rejects(peer.client, /QEMU closed its monitor|QEMU's monitor/);
  });

  test("a monitor that says nothing is given up", async () => {
    const clock = new FakeClock();
    await using peer = await openPeer(clock);
    await clock.untilSleeping(1);
    clock.advance(VMM_LIMITS.greetingMs);
    await assert.rejects(peer.client, /did not answer its greeting/);
  });

  test("a caller that leaves does not disturb the others, and the late answer is taken", async () => {
    await using peer = await openPeer();
    const client = await greet(peer);
    const abort = new AbortController();
    const left = client.run("slow", {}, { signal: abort.signal });
    const { id } = await peer.next();
    abort.abort(new Error("left"));
    await assert.rejects(left, /left/);
    peer.answer(`{"return": {}, "id": ${id}}\n`);
    const answered = client.run("next", {}, { signal });
    peer.answer(`{"return": "there", "id": ${(await peer.next()).id}}\n`);
    assert.equal(await answered, "there");
  });
});
