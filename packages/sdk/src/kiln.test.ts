import assert from "node:assert/strict";
import { test } from "node:test";
import { KilnError } from "@kiln/protocol/errors";
import { Kiln } from "./kiln.ts";
import { UnixTransport } from "./node/unix-transport.ts";
import { aVm, anOperation, logBody, StubDaemon } from "./testing/index.ts";

const clientOf = (stub: StubDaemon): Kiln => new Kiln(new UnixTransport({ socketPath: stub.socketPath }));

const stdout = (offset: number, text: string) => ({ stream: "stdout" as const, offset, bytes: Buffer.from(text) });

test("a call whose connection broke before an answer is made again with the same idempotency key", async () => {
  await using stub = await StubDaemon.listen();
  let times = 0;
  stub.on("POST", "/v1/vms", () => (++times < 3 ? "break" : { json: anOperation({ result: "0123456789ab" }), status: 202 }));
  using kiln = clientOf(stub);
  const operation = await kiln.vms.create({ image: "deb:busybox-static" });
  assert.equal(operation.result, "0123456789ab");
  const keys = stub.calls("POST", "/v1/vms").map((request) => request.headers["idempotency-key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.match(String(keys[0]), /^[0-9a-f]{32}$/);
});

test("two calls have two idempotency keys", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("POST", "/v1/vms/web/stop", () => ({ json: anOperation(), status: 202 }));
  using kiln = clientOf(stub);
  await Promise.all([kiln.vms.stop("web"), kiln.vms.stop("web", { timeoutMs: 5 })]);
  const calls = stub.calls("POST", "/v1/vms/web/stop");
  assert.equal(new Set(calls.map((request) => request.headers["idempotency-key"])).size, 2);
  assert.deepEqual(calls.map((request) => request.body.toString()).toSorted(), ['{"timeoutMs":5}', "{}"]);
});

test("a problem of the daemon is thrown as the error that it was there", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", "/v1/vms/nope", () => ({ problem: "VM_NOT_FOUND", detail: "there is no VM nope" }));
  using kiln = clientOf(stub);
  await assert.rejects(
    kiln.vms.get("nope"),
    (error) => error instanceof KilnError && error.code === "VM_NOT_FOUND" && error.message === "there is no VM nope",
  );
});

test("a socket that nobody listens on is DAEMON_UNREACHABLE", async () => {
  using kiln = new Kiln(new UnixTransport({ socketPath: "/tmp/kiln-nobody-listens.sock" }));
  await assert.rejects(kiln.vms.list(), (error) => error instanceof KilnError && error.code === "DAEMON_UNREACHABLE");
});

test("a home of 200 characters with a space works, WebSockets included", async () => {
  await using stub = await StubDaemon.listen(`a home ${"x".repeat(200)}`);
  stub.on("GET", "/v1/vms", () => ({ json: [aVm()] }));
  stub.onSocket("/v1/vms/web/exec", (client) =>
    client.on("message", () => client.send(JSON.stringify({ type: "exit", exitCode: 3, signal: null, oomKilled: false }))),
  );
  using kiln = clientOf(stub);
  assert.equal((await kiln.vms.list()).length, 1);
  await using session = kiln.vms.exec("web", { command: ["true"] });
  assert.equal((await session.exit).exitCode, 3);
});

test("an aborted call rejects with the reason and leaves no request behind", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", "/v1/vms/web/wait", () => "hang");
  using kiln = clientOf(stub);
  const controller = new AbortController();
  const reason = new KilnError("CANCELLED", "enough");
  setTimeout(() => controller.abort(reason), 50);
  await assert.rejects(kiln.vms.wait("web", { signal: controller.signal }), (error) => error === reason);
});

test("a watch that breaks is opened again and ends with the operation", async () => {
  await using stub = await StubDaemon.listen();
  const lines = (...operations: unknown[]) => Buffer.from(operations.map((one) => `${JSON.stringify(one)}\n`).join(""));
  let times = 0;
  stub.on("GET", "/v1/operations/op_1/watch", () =>
    ++times === 1
      ? { bytes: lines(anOperation({ state: "running", phase: "one" })), thenBreak: true }
      : { bytes: lines(anOperation({ state: "running", phase: "two" }), anOperation()) },
  );
  using kiln = clientOf(stub);
  const states: string[] = [];
  for await (const operation of kiln.operations.watch("op_1")) states.push(operation.phase ?? operation.state);
  assert.deepEqual(states, ["one", "two", "succeeded"]);
});

test("an operation that failed is thrown with its own code, hint and causes", async () => {
  await using stub = await StubDaemon.listen();
  const error = { code: "VM_BOOT_FAILED", detail: "web did not boot", hint: "look", causes: ["qemu: no"] };
  stub.on("GET", "/v1/operations/op_1", () => ({ json: anOperation({ id: "op_1", state: "failed", error }) }));
  using kiln = clientOf(stub);
  await assert.rejects(kiln.operations.result(anOperation({ id: "op_1", state: "running" })), (thrown) => {
    assert(thrown instanceof KilnError);
    assert.deepEqual([thrown.code, thrown.hint, thrown.operation, thrown.remoteCauses], ["VM_BOOT_FAILED", "look", "op_1", ["qemu: no"]]);
    return true;
  });
});

test("a followed log that breaks goes on where it broke: each byte once (I36)", async () => {
  await using stub = await StubDaemon.listen();
  let times = 0;
  stub.on("GET", "/v1/vms/web/logs", () =>
    ++times === 1
      ? { bytes: logBody([stdout(0, "one "), stdout(4, "two ")]), thenBreak: true }
      : { bytes: logBody([stdout(0, "one two three"), stdout(13, "!")]) },
  );
  using kiln = clientOf(stub);
  let text = "";
  for await (const chunk of kiln.vms.logs("web", { follow: true })) text += Buffer.from(chunk.bytes).toString();
  assert.equal(text, "one two three!");
  assert.equal(stub.calls("GET", "/v1/vms/web/logs")[1]?.query.get("stdout"), "8");
});

test("a log's tail is its last lines over both streams, then what follows", async () => {
  await using stub = await StubDaemon.listen();
  const written = [stdout(0, "a\nb\nc"), { stream: "stderr" as const, offset: 0, bytes: Buffer.from("\nE\n") }];
  stub.on("GET", "/v1/vms/web/logs", ({ query }) => ({
    bytes: logBody(query.get("follow") === "true" ? [...written, stdout(5, "d\n")] : written),
  }));
  using kiln = clientOf(stub);
  const read = async (options: { follow?: boolean; tailLines: number }): Promise<string> => {
    let text = "";
    for await (const chunk of kiln.vms.logs("web", options)) text += Buffer.from(chunk.bytes).toString();
    return text;
  };
  assert.equal(await read({ tailLines: 2 }), "c\nE\n");
  assert.equal(await read({ tailLines: 0 }), "");
  assert.equal(await read({ tailLines: 99 }), "a\nb\nc\nE\n");
  assert.equal(await read({ tailLines: 1, follow: true }), "E\nd\n");
});
