import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseDataFrame } from "@kiln/protocol/streams";
import { aVm, anOperation, sendMessage, sendOutput, StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "./testing/kiln-process.ts";
import { hasScript, onTerminal } from "./testing/terminal.ts";

const ID = "0123456789ab";

const withVm = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  stub.on("POST", "/v1/vms", () => ({ json: anOperation({ result: ID }), status: 202 }));
  stub.on("GET", `/v1/vms/${ID}`, () => ({ json: aVm() }));
  return stub;
};

describe("progress", { skip: !hasScript }, () => {
  const slow = (stub: StubDaemon): void => {
    const running = anOperation({
      state: "running",
      subject: "web",
      phase: "rootfs.build",
      progress: { done: 1, total: 2, unit: "layers" },
    });
    const later = async () => {
      await new Promise((resolve) => setTimeout(resolve, 600));
      return { json: anOperation({ result: ID }) };
    };
    stub.on("POST", "/v1/vms", () => ({ json: running, status: 202 }));
    stub.on("GET", `/v1/operations/${running.id}`, later);
    stub.on("GET", `/v1/operations/${running.id}/watch`, async () => ({ bytes: Buffer.from(`${JSON.stringify((await later()).json)}\n`) }));
  };
  test("is drawn on a terminal while it takes long, and gone at the end", async () => {
    await using stub = await withVm();
    slow(stub);
    const { exitCode, screen } = await onTerminal(["run", "-d", "img"], { home: stub.home });
    assert.equal(exitCode, 0, screen);
    assert(screen.includes("web: rootfs.build  [############------------]  1 layers / 2 layers"), JSON.stringify(screen));
    assert(screen.includes(`${ID}\r\n`));
    assert(!screen.includes("\u001b[?25l"), "the cursor stays: what follows may be a shell");
  });
  test("is silent without a terminal, and with --json", async () => {
    await using stub = await withVm();
    slow(stub);
    assert.equal((await kiln(["run", "-d", "img"], { home: stub.home })).stderr, "");
    const { screen } = await onTerminal(["run", "-d", "--json", "img"], { home: stub.home });
    assert.equal(screen, `${JSON.stringify(aVm())}\r\n`);
  });
});

describe("a terminal given to a command", { skip: !hasScript }, () => {
  const withShell = async (): Promise<{ stub: StubDaemon; typed: string[] }> => {
    const stub = await withVm();
    const typed: string[] = [];
    stub.onSocket("/v1/vms/web/exec", (client) => {
      client.on("message", (data: Buffer, isBinary) => {
        if (isBinary) {
          typed.push(Buffer.from(parseDataFrame(data).bytes).toString());
          if (typed.join("").includes("q")) sendMessage(client, { type: "exit", exitCode: 5, signal: null, oomKilled: false });
        } else if (data.toString().includes('"command"')) {
          typed.push(JSON.stringify((JSON.parse(data.toString()) as { tty: unknown }).tty));
          sendMessage(client, { type: "started", stdinOffset: null });
          sendOutput(client, "stdout", { offset: 0, text: "guest$ " });
        }
      });
    });
    return { stub, typed };
  };
  test("is raw: ctrl-c is typed, not sent as a signal; its size goes along", async () => {
    const { stub, typed } = await withShell();
    await using _ = stub;
    const { exitCode, screen } = await onTerminal(["exec", "-it", "web", "sh"], { home: stub.home, prompt: "guest$ ", keys: "\u0003abcq" });
    assert.equal(exitCode, 5, screen);
    assert.equal(typed.join(""), '{"rows":24,"cols":80}\u0003abcq');
  });
  test("comes back with ctrl-p ctrl-q, and the command runs on", async () => {
    const { stub, typed } = await withShell();
    await using _ = stub;
    const { exitCode, screen } = await onTerminal(["exec", "-it", "web", "sh"], {
      home: stub.home,
      prompt: "guest$ ",
      keys: "a\u0010b\u0010\u0011",
    });
    assert.equal(exitCode, 0, screen);
    assert.equal(typed.join(""), '{"rows":24,"cols":80}a\u0010b');
  });
});
