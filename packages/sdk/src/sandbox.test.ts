import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDataFrame } from "@kiln/protocol/streams";
import { KilnError } from "@kiln/protocol/errors";
import { Kiln } from "./kiln.ts";
import { UnixTransport } from "./node/unix-transport.ts";
import { Sandbox } from "./sandbox.ts";
import { aVm, anOperation, sendMessage, sendOutput, StubDaemon } from "./testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));

const working = (stub: StubDaemon): void => {
  stub.on("POST", "/v1/vms", () => ({ json: anOperation({ result: "0123456789ab" }), status: 202 }));
  stub.on("GET", "/v1/vms/0123456789ab", () => ({ json: aVm() }));
  stub.on("DELETE", "/v1/vms/0123456789ab", () => ({ json: anOperation({ kind: "vm.delete" }), status: 202 }));
};

test("a sandbox is an idle VM that is removed at the end of its scope", async () => {
  await using stub = await StubDaemon.listen();
  working(stub);
  {
    await using sandbox = await Sandbox.create({ kiln: clientOf(stub), image: "deb:busybox-static", cpus: 2 });
    assert.equal(sandbox.name, "web");
  }
  assert.deepEqual(JSON.parse(stub.calls("POST", "/v1/vms")[0]?.body.toString() ?? ""), {
    idle: true,
    start: true,
    image: "deb:busybox-static",
    cpus: 2,
  });
  assert.equal(stub.calls("DELETE", "/v1/vms/0123456789ab")[0]?.query.get("force"), "true");
});

test("exec answers with output and exit code, and gives input to stdin", async () => {
  await using stub = await StubDaemon.listen();
  working(stub);
  stub.onSocket("/v1/vms/0123456789ab/exec", (client) => {
    client.on("message", (data: Buffer, isBinary) => {
      if (isBinary)
        return sendOutput(client, "stdout", { offset: 0, text: Buffer.from(parseDataFrame(data).bytes).toString().toUpperCase() });
      const message = JSON.parse(data.toString()) as { command?: string[]; type?: string };
      if (message.command !== undefined) {
        assert.deepEqual(message.command, ["/bin/sh", "-c", "tr a-z A-Z"]);
        sendMessage(client, { type: "started", stdinOffset: null });
      }
      if (message.type === "stdin-end") sendMessage(client, { type: "exit", exitCode: 4, signal: null, oomKilled: false });
    });
  });
  const sandbox = await Sandbox.create({ kiln: clientOf(stub), image: "deb:busybox-static" });
  assert.deepEqual(await sandbox.exec("tr a-z A-Z", { input: "shout" }), {
    exitCode: 4,
    signal: null,
    oomKilled: false,
    stdout: "SHOUT",
    stderr: "",
  });
});

test("a sandbox whose VM fails to start leaves none behind", async () => {
  await using stub = await StubDaemon.listen();
  working(stub);
  const failed = anOperation({
    state: "failed",
    result: "0123456789ab",
    error: { code: "VM_BOOT_FAILED", detail: "no boot", hint: "", causes: [] },
  });
  stub.on("POST", "/v1/vms", () => ({ json: failed, status: 202 }));
  stub.on("POST", `/v1/operations/${failed.id}/cancel`, () => ({ json: failed, status: 202 }));
  stub.on("GET", `/v1/operations/${failed.id}`, () => ({ json: failed }));
  await assert.rejects(
    Sandbox.create({ kiln: clientOf(stub), image: "deb:x" }),
    (error) => error instanceof KilnError && error.code === "VM_BOOT_FAILED",
  );
  assert.equal(stub.calls("DELETE", "/v1/vms/0123456789ab").length, 1);
});
