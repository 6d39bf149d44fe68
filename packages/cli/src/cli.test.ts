import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { aVm, anImage, anOperation, logBody, sendMessage, sendOutput, StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "./testing/kiln-process.ts";

const vm = aVm({ name: "web" });

const withVm = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  stub.on("GET", "/v1/vms", () => ({
    json: [vm, aVm({ id: "ffffffffffff", name: "old", state: "exited", exitCode: 2, startedAt: null, finishedAt: null })],
  }));
  stub.on("GET", "/v1/vms/web", () => ({ json: vm }));
  stub.on("GET", /^\/v1\/vms\/nope/, () => ({ problem: "VM_NOT_FOUND", detail: "there is no VM nope" }));
  stub.on("DELETE", /^\/v1\/vms\/nope/, () => ({ problem: "VM_NOT_FOUND", detail: "there is no VM nope" }));
  return stub;
};

const problemOf = (stderr: string): Record<string, unknown> => {
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  return JSON.parse(stderr) as Record<string, unknown>;
};

describe("usage errors exit with 2 and reach no daemon", () => {
  const table: readonly (readonly string[])[] = [
    ["bogus"],
    ["ps", "--bogus"],
    ["run"],
    ["run", "--cpus", "x", "img"],
    ["run", "-m", "100m", "img"],
    ["run", "--pull", "sometimes", "img"],
    ["run", "--idle", "img", "sh"],
    ["run", "-it", "img", "sh"],
    ["run", "--env-file", "/nowhere", "img"],
    ["exec", "web"],
    ["rm"],
    ["kill", "-s", "NOPE", "web"],
    ["logs", "--tail", "x", "web"],
    ["ps", "--filter", "color=red"],
    ["daemon"],
    ["daemon", "dance"],
    ["completion", "cmd"],
    ["start", "-a", "a", "b"],
    ["run", "--no-wait", "img"],
    ["run", "--platform", "a b", "img"],
    ["pull"],
    ["pull", "--platform", "Linux", "img"],
    ["tag", "img"],
    ["save"],
    ["save", "-o", "/nowhere/x.tar", "img"],
    ["load", "extra"],
    ["image"],
    ["image", "dance"],
    ["image", "inspect"],
    ["images", "a", "b"],
    ["prune", "extra"],
    ["image", "prune"],
  ];
  for (const argv of table) {
    test(argv.join(" "), async () => {
      await using stub = await StubDaemon.listen();
      const run = await kiln(argv, { home: stub.home });
      assert.equal(run.exitCode, 2, run.stderr);
      assert.equal(run.stdout, "");
      assert.match(run.stderr, /^kiln: /);
      assert.match(run.stderr, /\n {2}hint: /);
      assert.equal(stub.requests.length, 0);
      const json = await kiln(["--json", ...argv], { home: stub.home });
      assert.equal(json.exitCode, 2);
      assert.equal(json.stdout, "");
      assert.equal(problemOf(json.stderr)["exitCode"], 2);
    });
  }
  test("a near miss of a command is suggested", async () => {
    const run = await kiln(["strat"], { home: "/nonexistent" });
    assert.match(run.stderr, /unknown command 'strat'.*did you mean.*start/i);
  });
});

test("version and help need no daemon and no home", async () => {
  assert.match((await kiln(["version"], { home: "/dev/null" })).stdout, /^kiln \d+\.\d+\.\d+\n$/);
  assert.match((await kiln(["--version"], { home: "/dev/null" })).stdout, /^kiln /);
  const parsed = JSON.parse((await kiln(["version", "--json"], { home: "/dev/null" })).stdout) as Record<string, unknown>;
  assert.equal(parsed["apiVersion"], "v1");
  for (const argv of [
    ["help", "run"],
    ["run", "--help"],
    ["run", "-h"],
  ]) {
    const help = await kiln(argv, { home: "/dev/null" });
    assert.equal(help.exitCode, 0);
    assert.match(help.stdout, /Usage: kiln run .*<image> \[command\.\.\.\][\s\S]*--rm[\s\S]*Examples:/);
    assert.equal(help.stderr, "");
  }
  assert.match((await kiln([], { home: "/dev/null" })).stdout, /Commands:[\s\S]*run[\s\S]*daemon/);
});

describe("lists", () => {
  test("ps shows what lives, -a all, --json one array, -q ids", async () => {
    await using stub = await withVm();
    const { home } = stub;
    const table = await kiln(["ps"], { home });
    assert.match(table.stdout, /^ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAME\n0123456789ab .* Up .* web\n$/);
    assert.deepEqual(JSON.parse((await kiln(["ps", "--json"], { home })).stdout), [vm]);
    assert.equal((JSON.parse((await kiln(["--json", "ps", "-a"], { home })).stdout) as unknown[]).length, 2);
    assert.equal((await kiln(["ps", "-aq", "--filter", "status=exited"], { home })).stdout, "ffffffffffff\n");
    assert.match((await kiln(["ps", "-a", "--filter", "name=old"], { home })).stdout, /Exited \(2\)/);
  });
  test("ps shortens long commands unless told not to", async () => {
    await using stub = await StubDaemon.listen();
    stub.on("GET", "/v1/vms", () => ({ json: [aVm({ command: ["sh", "-c", "x".repeat(50)] })] }));
    assert.match((await kiln(["ps"], { home: stub.home })).stdout, /"sh -c x{16,17}…/);
    assert.match((await kiln(["ps", "--no-trunc"], { home: stub.home })).stdout, /"sh -c x{50}"/);
  });
  test("a name of a hostile guest is escaped in tables and whole in JSON", async () => {
    await using stub = await StubDaemon.listen();
    const hostile = aVm({ command: ["\u001b[2J\nrm"] });
    stub.on("GET", "/v1/vms", () => ({ json: [hostile] }));
    const { stdout } = await kiln(["ps", "--no-trunc"], { home: stub.home });
    assert(!stdout.includes("\u001b"));
    assert.equal(stdout.split("\n").length, 3);
    assert.deepEqual(JSON.parse((await kiln(["ps", "--json"], { home: stub.home })).stdout), [hostile]);
  });
  test("inspect prints one object for one name, an array for several, and nothing if one is missing", async () => {
    await using stub = await withVm();
    const { home } = stub;
    assert.deepEqual(JSON.parse((await kiln(["inspect", "web"], { home })).stdout), vm);
    assert.deepEqual(JSON.parse((await kiln(["inspect", "--json", "web", "web"], { home })).stdout), [vm, vm]);
    const missing = await kiln(["inspect", "web", "nope", "--json"], { home });
    assert.equal(missing.stdout, "");
    assert.equal(problemOf(missing.stderr)["code"], "VM_NOT_FOUND");
    assert.equal(missing.exitCode, 1);
  });
});

describe("several names", () => {
  test("rm does all it can and exits with the worst code", async () => {
    await using stub = await withVm();
    stub.on("DELETE", "/v1/vms/web", () => ({ json: anOperation({ kind: "vm.delete" }), status: 202 }));
    const run = await kiln(["rm", "web", "nope"], { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout], [1, "web\n"]);
    assert.match(run.stderr, /^kiln: there is no VM nope\n {2}hint: /);
    const json = await kiln(["rm", "--json", "nope", "web"], { home: stub.home });
    assert.equal(json.stdout, "");
    assert.equal(problemOf(json.stderr)["code"], "VM_NOT_FOUND");
    assert.deepEqual(JSON.parse((await kiln(["rm", "--json", "web"], { home: stub.home })).stdout), { name: "web", removed: true });
  });
  test("rm -f of what is not there is no error", async () => {
    await using stub = await withVm();
    const run = await kiln(["rm", "-f", "nope"], { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout, run.stderr], [0, "", ""]);
  });
  test("wait prints exit codes", async () => {
    await using stub = await withVm();
    stub.on("GET", "/v1/vms/a/wait", () => ({ json: aVm({ state: "exited", exitCode: 3 }) }));
    stub.on("GET", "/v1/vms/b/wait", () => ({ json: aVm({ state: "exited", signal: "SIGKILL" }) }));
    assert.equal((await kiln(["wait", "a", "b"], { home: stub.home })).stdout, "3\n137\n");
  });
});

test("logs keep stdout and stderr apart; --json is an object a line", async () => {
  await using stub = await withVm();
  const frames = [
    { stream: "stdout" as const, offset: 0, bytes: Buffer.from("out\n") },
    { stream: "stderr" as const, offset: 0, bytes: Buffer.from("err\n") },
  ];
  stub.on("GET", "/v1/vms/web/logs", () => ({ bytes: logBody(frames) }));
  const run = await kiln(["logs", "web"], { home: stub.home });
  assert.deepEqual([run.exitCode, run.stdout, run.stderr], [0, "out\n", "err\n"]);
  const lines = (await kiln(["logs", "--json", "web"], { home: stub.home })).stdout.trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line) as unknown),
    [
      { stream: "stdout", offset: 0, droppedBytes: 0, text: "out\n" },
      { stream: "stderr", offset: 0, droppedBytes: 0, text: "err\n" },
    ],
  );
});

test("pull of what is there says so, and exits with 0", async () => {
  await using stub = await StubDaemon.listen();
  const image = anImage();
  stub.on("GET", "/v1/images", () => ({ json: [image] }));
  stub.on("POST", "/v1/images/pull", () => ({ json: anOperation({ kind: "image.pull", result: image.digest }), status: 202 }));
  const run = await kiln(["pull", image.reference], { home: stub.home });
  assert.equal(run.exitCode, 0);
  assert.match(run.stdout, /up to date/);
});

test("doctor exits with 1 when a check fails", async () => {
  await using stub = await StubDaemon.listen();
  stub.on("GET", "/v1/doctor", () => ({
    json: { ok: false, checks: [{ name: "qemu", status: "fail", found: null, needed: "7.2", fix: "apt-get install qemu" }] },
  }));
  const run = await kiln(["doctor"], { home: stub.home });
  assert.equal(run.exitCode, 1);
  assert.match(run.stdout, /qemu +FAIL/);
  assert.match(run.stdout, /apt-get install qemu/);
});

test("a reader that goes away ends the command quietly", async () => {
  await using stub = await withVm();
  stub.onSocket("/v1/vms/web/exec", (client) => {
    client.on("message", (data: Buffer) => {
      if (!data.toString().includes("command")) return;
      sendMessage(client, { type: "started", stdinOffset: null });
      let offset = 0;
      const push = () => {
        if (client.readyState !== client.OPEN) return;
        sendOutput(client, "stdout", { offset, text: "y".repeat(4096) });
        offset += 4096;
        setTimeout(push, 1);
      };
      push();
    });
  });
  const run = await kiln(["exec", "web", "yes"], {
    home: stub.home,
    during: (child) => child.stdout?.once("data", () => child.stdout?.destroy()),
  });
  assert.deepEqual([run.exitCode, run.stderr], [141, ""]);
});

test("completion scripts know commands and their options", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { stdout, exitCode } = await kiln(["completion", shell], { home: "/dev/null" });
    assert.equal(exitCode, 0);
    for (const word of ["daemon", "status", "entrypoint", "no-trunc", "plain-http", "no-wait", "prune", "kiln images"])
      assert(stdout.includes(word), `${shell} ${word}`);
  }
});
