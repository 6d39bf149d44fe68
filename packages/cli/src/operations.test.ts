import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { OperationView } from "@kiln/protocol";
import { aVm, anOperation, StubDaemon } from "@kiln/sdk/testing";
import { describeOperation } from "./commands/operation-list.ts";
import { kiln } from "./testing/kiln-process.ts";
import { hasScript, onTerminal } from "./testing/terminal.ts";

const running = anOperation({ state: "running" });

describe("--no-wait", () => {
  const begin: readonly { readonly argv: readonly string[]; readonly method: string; readonly paths: readonly string[] }[] = [
    { argv: ["start", "web"], method: "POST", paths: ["/v1/vms/web/start"] },
    { argv: ["stop", "-t", "5", "web"], method: "POST", paths: ["/v1/vms/web/stop"] },
    { argv: ["restart", "web"], method: "POST", paths: ["/v1/vms/web/stop", "/v1/vms/web/start"] },
    { argv: ["rm", "-f", "web"], method: "DELETE", paths: ["/v1/vms/web"] },
  ];
  for (const { argv, method, paths } of begin) {
    test(`of ${argv[0]} prints the operation and is gone`, async () => {
      await using stub = await StubDaemon.listen();
      const joined = paths.at(-1)?.endsWith("start") === true ? "op_1111111111111111" : null;
      for (const path of paths) stub.on(method, path, () => ({ json: { ...running, joined }, status: 202 }));
      const run = await kiln([...argv, "--no-wait", "--json"], { home: stub.home });
      assert.deepEqual([run.exitCode, JSON.parse(run.stdout), run.stderr], [0, { operation: running.id, joined }, ""]);
      assert.deepEqual(
        stub.requests.map(({ path }) => path),
        paths,
      );
      assert.equal((await kiln([...argv, "--no-wait"], { home: stub.home })).stdout, `${running.id}\n`);
    });
  }
  test("of several VMs prints an array, and what is not there is an error as ever", async () => {
    await using stub = await StubDaemon.listen();
    for (const name of ["a", "b"])
      stub.on("POST", `/v1/vms/${name}/start`, () => ({ json: { ...running, id: `op_${name}` }, status: 202 }));
    stub.on("POST", "/v1/vms/c/start", () => ({ problem: "VM_NOT_FOUND", detail: "there is no VM c" }));
    const run = await kiln(["start", "--no-wait", "--json", "a", "b"], { home: stub.home });
    assert.deepEqual(JSON.parse(run.stdout), [
      { operation: "op_a", joined: null },
      { operation: "op_b", joined: null },
    ]);
    const mixed = await kiln(["start", "--no-wait", "a", "c"], { home: stub.home });
    assert.deepEqual([mixed.exitCode, mixed.stdout], [1, "op_a\n"]);
    assert.equal((await kiln(["start", "-a", "--no-wait", "a"], { home: stub.home })).exitCode, 2);
  });
});

describe("op", () => {
  test("ls says where each stands, how far it is, and whose work it shares", async () => {
    const table: readonly [Partial<OperationView>, string][] = [
      [{ state: "queued", position: 1 }, "waiting, next in line"],
      [{ state: "queued", position: 4, joined: "op_1" }, "waiting, 3 in front, joined op_1"],
      [{ state: "running", phase: "fetch", progress: { done: 3, total: 4, unit: "layers" } }, "fetch, 75% of 4 layers"],
      [{ state: "running", phase: "fetch", progress: { done: 2 ** 20, total: null, unit: "bytes" } }, "fetch, 1 MiB"],
      [{ state: "running", phase: "fetch", joined: "op_1" }, "fetch, joined op_1"],
      [{ state: "failed", error: { code: "VM_DIED", detail: "d", hint: "h", causes: [] } }, "VM_DIED"],
      [{ state: "succeeded" }, "-"],
    ];
    for (const [fields, text] of table) assert.equal(describeOperation(anOperation(fields)), text);
    await using stub = await StubDaemon.listen();
    stub.on("GET", "/v1/operations", () => ({ json: [anOperation({ state: "queued", position: 4 })] }));
    const { stdout } = await kiln(["op", "ls"], { home: stub.home });
    assert.match(stdout, /^ID .*STATE .*\nop_0123456789abcdef +vm\.create +web +queued +waiting, 3 in front +/);
  });
  test("a run on a terminal shows how many are in front of it", { skip: !hasScript }, async () => {
    await using stub = await StubDaemon.listen();
    const queued = anOperation({ state: "queued", phase: "claim", position: 4 });
    stub.on("POST", "/v1/vms", () => ({ json: queued, status: 202 }));
    stub.on("GET", `/v1/operations/${queued.id}/watch`, async () => {
      await new Promise((resolve) => setTimeout(resolve, 600));
      return { bytes: Buffer.from(`${JSON.stringify(anOperation({ result: "0123456789ab" }))}\n`) };
    });
    stub.on("GET", "/v1/vms/0123456789ab", () => ({ json: aVm() }));
    const { screen, exitCode } = await onTerminal(["run", "-d", "img"], { home: stub.home });
    assert.equal(exitCode, 0, screen);
    assert.ok(screen.includes("web: claim  waiting, 3 in front"), JSON.stringify(screen));
  });
});
