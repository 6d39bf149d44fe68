import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClientMessage } from "@kiln/protocol/streams";
import { parseDataFrame, STDIN_WINDOW_BYTES } from "@kiln/protocol/streams";
import { KilnError } from "@kiln/protocol/errors";
import { Kiln } from "./kiln.ts";
import { UnixTransport } from "./node/unix-transport.ts";
import { aVm, logBody, sendMessage, sendOutput, StubDaemon, listOf } from "./testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));

type Client = Parameters<Parameters<StubDaemon["onSocket"]>[1]>[0];

/** Calls back with each thing the client sends, parsed. */
const listen = (client: Client, on: { text?: (message: Record<string, unknown>) => void; stdin?: (bytes: Buffer) => void }): void => {
  client.on("message", (data: Buffer, isBinary) => {
    if (isBinary) on.stdin?.(Buffer.from(parseDataFrame(data).bytes));
    else on.text?.(JSON.parse(data.toString()) as Record<string, unknown>);
  });
};

const exitNow = (client: Client, exitCode = 0): void => sendMessage(client, { type: "exit", exitCode, signal: null, oomKilled: false });

const readAll = async (session: AsyncIterable<{ stream: string; bytes: Uint8Array }>): Promise<{ stdout: string; stderr: string }> => {
  const text: Record<string, string> = { stdout: "", stderr: "" };
  for await (const { stream, bytes } of session) text[stream] += Buffer.from(bytes).toString();
  return { stdout: text["stdout"] ?? "", stderr: text["stderr"] ?? "" };
};

test("an exec that breaks comes back with the same id, and each byte is read once (I26, I36)", async () => {
  await using stub = await StubDaemon.listen();
  const ids: unknown[] = [];
  stub.onSocket("/v1/vms/web/exec", (client) => {
    listen(client, {
      text: (message) => {
        if (message["command"] === undefined) return;
        ids.push(message["id"]);
        sendMessage(client, { type: "started", stdinOffset: null });
        sendOutput(client, "stdout", { offset: 0, text: "hello " });
        if (ids.length < 3) return setTimeout(() => client.terminate(), 20);
        sendOutput(client, "stderr", { offset: 0, text: "oh" });
        sendOutput(client, "stdout", { offset: 3, text: "lo world" });
        exitNow(client, 7);
      },
    });
  });
  await using session = clientOf(stub).vms.exec("web", { command: ["true"] });
  assert.deepEqual(await readAll(session), { stdout: "hello world", stderr: "oh" });
  assert.deepEqual(await session.exit, { exitCode: 7, signal: null, oomKilled: false });
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
});

test("I26 an exec that comes back asks the guest that it was for, whoever has the name by then", async () => {
  await using stub = await StubDaemon.listen();
  const hellos: unknown[] = [];
  const serve = (client: Client, isLast: boolean): void => {
    sendMessage(client, { type: "guest", vm: "0123456789ab", epoch: 4 });
    listen(client, {
      text: (message) => {
        if (message["command"] === undefined) return;
        hellos.push(message["epoch"] ?? null);
        if (!isLast) return client.terminate();
        sendMessage(client, { type: "started", stdinOffset: null });
        exitNow(client);
      },
    });
  };
  stub.onSocket("/v1/vms/web/exec", (client) => serve(client, false));
  stub.onSocket("/v1/vms/0123456789ab/exec", (client) => serve(client, true));
  await using session = clientOf(stub).vms.exec("web", { command: ["true"] });
  assert.deepEqual(await readAll(session), { stdout: "", stderr: "" });
  assert.deepEqual(hellos, [null, 4]);
});

test("output is acknowledged when it was consumed, not when it arrived", async () => {
  await using stub = await StubDaemon.listen();
  const acks: ClientMessage[] = [];
  stub.onSocket("/v1/vms/web/attach", (client) => {
    sendMessage(client, { type: "started", stdinOffset: null });
    sendOutput(client, "stdout", { offset: 0, text: "first" });
    listen(client, {
      text: (message) => {
        acks.push(message as unknown as ClientMessage);
        exitNow(client);
      },
    });
  });
  await using session = clientOf(stub).vms.attach("web");
  const reader = session[Symbol.asyncIterator]();
  await reader.next();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(acks, []);
  assert.equal((await reader.next()).done, true);
  assert.deepEqual(acks, [{ type: "ack", stream: "stdout", offset: 5 }]);
});

test("dropped output is told with its size", async () => {
  await using stub = await StubDaemon.listen();
  stub.onSocket("/v1/vms/web/attach", (client) => {
    sendMessage(client, { type: "started", stdinOffset: null });
    sendOutput(client, "stdout", { offset: 0, text: "ab" });
    sendOutput(client, "stdout", { offset: 100, text: "yz" });
    exitNow(client);
  });
  const chunks = await listOf(clientOf(stub).vms.attach("web"));
  assert.deepEqual(
    chunks.map(({ offset, droppedBytes }) => ({ offset, droppedBytes })),
    [
      { offset: 0, droppedBytes: 0 },
      { offset: 100, droppedBytes: 98 },
    ],
  );
});

test("stdin stops at the window, and signals pass it by", async () => {
  await using stub = await StubDaemon.listen();
  let received = 0;
  stub.onSocket("/v1/vms/web/exec", (client) => {
    listen(client, {
      stdin: (bytes) => (received += bytes.length),
      text: (message) => {
        if (message["command"] !== undefined) sendMessage(client, { type: "started", stdinOffset: null });
        if (message["type"] === "signal") exitNow(client, 1);
      },
    });
  });
  await using session = clientOf(stub).vms.exec("web", { command: ["sleep"], stdin: true });
  const piece = new Uint8Array(2 ** 16);
  const writing = (async () => {
    while (await session.write(piece));
  })();
  while (received < STDIN_WINDOW_BYTES) await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(received, STDIN_WINDOW_BYTES);
  assert.equal(await session.sendSignal("SIGTERM"), true);
  assert.equal((await session.exit).exitCode, 1);
  await writing;
});

test("acknowledged stdin goes on after a break; stdin that may be lost is an error, never doubled", async () => {
  await using stub = await StubDaemon.listen();
  const received: string[] = [];
  let connections = 0;
  let acknowledges = true;
  stub.onSocket(/exec$/, (client) => {
    connections += 1;
    let taken = 0;
    listen(client, {
      text: (message) => {
        if (message["command"] !== undefined) sendMessage(client, { type: "started", stdinOffset: null });
        if (message["type"] === "stdin-end") exitNow(client);
      },
      stdin: (bytes) => {
        received.push(bytes.toString());
        taken += bytes.length;
        if (acknowledges) sendMessage(client, { type: "stdin-ack", offset: taken });
        if (bytes.toString() === "break") setTimeout(() => client.terminate(), 20);
      },
    });
  });
  const kiln = clientOf(stub);
  await using good = kiln.vms.exec("web", { command: ["cat"], stdin: true });
  await good.write(Buffer.from("break"));
  while (connections < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await good.write(Buffer.from("more"));
  await good.endStdin();
  assert.equal((await good.exit).exitCode, 0);
  assert.deepEqual(received, ["break", "more"]);
  acknowledges = false;
  await using bad = kiln.vms.exec("web", { command: ["cat"], stdin: true });
  await bad.write(Buffer.from("break"));
  await assert.rejects(bad.exit, (error) => error instanceof KilnError && error.message.includes("stdin"));
});

test("a daemon that says how much stdin it has is sent the rest", async () => {
  await using stub = await StubDaemon.listen();
  const received: string[] = [];
  let connections = 0;
  stub.onSocket(/exec$/, (client) => {
    connections += 1;
    listen(client, {
      text: (message) => {
        if (message["command"] !== undefined) sendMessage(client, { type: "started", stdinOffset: connections === 1 ? 0 : 2 });
        if (message["type"] === "stdin-end") exitNow(client);
      },
      stdin: (bytes) => {
        received.push(bytes.toString());
        if (connections === 1) client.terminate();
      },
    });
  });
  await using session = clientOf(stub).vms.exec("web", { command: ["cat"], stdin: true });
  await session.write(Buffer.from("abcdef"));
  await session.endStdin();
  assert.equal((await session.exit).exitCode, 0);
  assert.deepEqual(received, ["abcdef", "cdef"]);
});

test("a refused command rejects started, exit and the iteration with the daemon's error", async () => {
  await using stub = await StubDaemon.listen();
  stub.onSocket("/v1/vms/web/exec", (client) => {
    listen(client, {
      text: () => sendMessage(client, { type: "error", problem: { code: "COMMAND_NOT_FOUND", detail: "nope: not found" } }),
    });
  });
  await using session = clientOf(stub).vms.exec("web", { command: ["nope"] });
  const isIt = (error: unknown) => error instanceof KilnError && error.code === "COMMAND_NOT_FOUND";
  await assert.rejects(session.started, isIt);
  await assert.rejects(session.exit, isIt);
  await assert.rejects(readAll(session), isIt);
  assert.equal(await session.write(Buffer.from("x")), false);
});

test("a slow reader holds the socket back instead of filling memory (I26)", async () => {
  await using stub = await StubDaemon.listen();
  let sent = 0;
  let peer: Client | null = null;
  stub.onSocket("/v1/vms/web/attach", (client) => {
    peer = client;
    sendMessage(client, { type: "started", stdinOffset: null });
    const text = "x".repeat(2 ** 16);
    const push = () => {
      while (sent < 1000 && client.bufferedAmount < 2 ** 20) sendOutput(client, "stdout", { offset: sent++ * text.length, text });
      if (sent < 1000) setTimeout(push, 5);
      else exitNow(client);
    };
    push();
  });
  await using session = clientOf(stub).vms.attach("web");
  await session.started;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert(peer !== null);
  assert(sent < 300, `${sent} of 1000 chunks went out unread`);
  assert.equal((await readAll(session)).stdout.length, 1000 * 2 ** 16);
});

test("a VM that ends while the connection is broken is read to its end from its log and its record (I36)", async () => {
  await using stub = await StubDaemon.listen();
  let connections = 0;
  stub.on("GET", "/v1/vms/web", () => ({ json: aVm({ state: "exited", exitCode: 9 }) }));
  stub.on("GET", "/v1/vms/web/logs", () => ({ bytes: logBody([{ stream: "stdout", offset: 0, bytes: Buffer.from("all of it") }]) }));
  stub.onSocket("/v1/vms/web/attach", (client) => {
    connections += 1;
    if (connections > 1) return sendMessage(client, { type: "error", problem: { code: "VM_NOT_RUNNING", detail: "web is exited" } });
    sendMessage(client, { type: "started", stdinOffset: null });
    sendOutput(client, "stdout", { offset: 0, text: "all" });
    setTimeout(() => client.terminate(), 20);
  });
  await using session = clientOf(stub).vms.attach("web");
  assert.equal((await readAll(session)).stdout, "all of it");
  assert.equal((await session.exit).exitCode, 9);
});
