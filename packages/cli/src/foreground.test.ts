import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseDataFrame } from "@kiln/protocol/streams";
import { aVm, anImage, anOperation, sendMessage, sendOutput, StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "./testing/kiln-process.ts";

const ID = "0123456789ab";

interface Guest {
  readonly exitCode?: number | null;
  readonly signal?: string | null;
  /** Runs when the command has started; without it the command says "hi" and ends. */
  readonly serve?: (client: Parameters<Parameters<StubDaemon["onSocket"]>[1]>[0]) => void;
}

/** A daemon that creates, attaches and starts, in the order that `run` needs. */
const withGuest = async (guest: Guest = {}): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  const started = Promise.withResolvers<void>();
  stub.on("POST", "/v1/vms", () => ({ json: anOperation({ result: ID }), status: 202 }));
  stub.on("GET", `/v1/vms/${ID}`, () => ({ json: aVm() }));
  stub.on("DELETE", `/v1/vms/${ID}`, () => ({ json: anOperation({ kind: "vm.delete" }), status: 202 }));
  stub.on("POST", `/v1/vms/${ID}/start`, () => {
    started.resolve();
    return { json: anOperation({ kind: "vm.start" }), status: 202 };
  });
  stub.onSocket(/\/(attach|exec)$/, (client, { path }) => {
    const begin = () => {
      sendMessage(client, { type: "started", stdinOffset: null });
      if (guest.serve !== undefined) return guest.serve(client);
      sendOutput(client, "stdout", { offset: 0, text: "hi\n" });
      sendOutput(client, "stderr", { offset: 0, text: "oh\n" });
      const { exitCode = 0, signal = null } = guest;
      sendMessage(client, { type: "exit", exitCode, signal, oomKilled: false });
    };
    if (path.endsWith("exec")) client.once("message", begin);
    else void started.promise.then(begin);
  });
  return stub;
};

const order = (stub: StubDaemon): string[] => stub.requests.map(({ method, path }) => `${method} ${path.replace(ID, "ID")}`);

const created = (stub: StubDaemon): Record<string, unknown> =>
  JSON.parse(stub.calls("POST", "/v1/vms")[0]?.body.toString() ?? "{}") as Record<string, unknown>;

describe("run in the foreground", () => {
  test("creates, attaches, then starts, and gives the guest's output and exit code", async () => {
    await using stub = await withGuest({ exitCode: 7 });
    const run = await kiln(["run", "deb:busybox-static", "sh", "-c", "exit 7"], { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout, run.stderr], [7, "hi\n", "oh\n"]);
    assert.deepEqual(order(stub), ["POST /v1/vms", "UPGRADE /v1/vms/ID/attach", "POST /v1/vms/ID/start"]);
  });
  test("a command that a signal ended exits with 128 and its number", async () => {
    await using stub = await withGuest({ exitCode: null, signal: "SIGKILL" });
    assert.equal((await kiln(["run", "img"], { home: stub.home })).exitCode, 137);
  });
  test("what follows the image is the guest's, -- and --json included", async () => {
    await using stub = await withGuest();
    const argv = [
      "run",
      "--rm",
      "-i",
      "--name",
      "web",
      "-e",
      "A=b c",
      "-eHOME",
      "-w",
      "/srv",
      "-u",
      "www",
      "--entrypoint",
      "",
      "--hostname",
      "h",
      "--cpus",
      "2",
      "-m1g",
      "--disk",
      "1g",
      "--label",
      "k=v",
      "--pull=always",
    ];
    const run = await kiln([...argv, "img", "--", "cmd", "--rm", "--json", "--", "-x"], { home: stub.home });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.deepEqual(created(stub), {
      image: "img",
      pull: "always",
      command: ["cmd", "--rm", "--json", "--", "-x"],
      entrypoint: [],
      env: ["A=b c", `HOME=${stub.home}`],
      workingDir: "/srv",
      user: "www",
      hostname: "h",
      idle: false,
      tty: null,
      stdin: true,
      network: "user",
      startMode: "auto",
      platform: null,
      plainHttp: false,
      ports: [],
      labels: { k: "v" },
      autoRemove: true,
      name: "web",
      cpus: 2,
      memoryBytes: 2 ** 30,
      diskBytes: 2 ** 30,
      start: false,
    });
  });
  test("without a command the image's is asked for, and stdin is not read without -i", async () => {
    await using stub = await withGuest();
    await kiln(["run", "img"], { home: stub.home, input: "ignored" });
    assert.deepEqual([created(stub)["command"], created(stub)["stdin"], created(stub)["entrypoint"]], [null, false, null]);
    assert.equal(stub.requests.find(({ method }) => method === "UPGRADE")?.query.get("stdin"), "false");
  });
  test("a failure before the command ran is 125, a missing command 127, whatever --rm made is removed", async () => {
    await using stub = await withGuest();
    const failing = (code: string) =>
      stub.on("POST", `/v1/vms/${ID}/start`, () => ({
        json: anOperation({ kind: "vm.start", state: "failed", error: { code, detail: "no", hint: "h", causes: ["c"] } }),
        status: 202,
      }));
    failing("CAPACITY_EXCEEDED");
    const run = await kiln(["run", "--rm", "img"], { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout], [125, ""]);
    assert.equal(stub.calls("DELETE", `/v1/vms/${ID}`).length, 1);
    failing("COMMAND_NOT_FOUND");
    assert.equal((await kiln(["run", "img", "nope"], { home: stub.home })).exitCode, 127);
    failing("COMMAND_NOT_EXECUTABLE");
    assert.equal((await kiln(["run", "img", "/etc"], { home: stub.home })).exitCode, 126);
    stub.on("POST", "/v1/vms", () => ({ problem: "IMAGE_NOT_FOUND", detail: "no image" }));
    const json = await kiln(["run", "--json", "img"], { home: stub.home });
    assert.equal(json.exitCode, 125);
    const { code, exitCode } = JSON.parse(json.stderr) as Record<string, unknown>;
    assert.deepEqual([json.stdout, code, exitCode], ["", "IMAGE_NOT_FOUND", 125]);
  });
  test("-d and --idle print the id once the VM runs", async () => {
    await using stub = await withGuest();
    assert.equal((await kiln(["run", "-d", "img", "sleep", "9"], { home: stub.home })).stdout, `${ID}\n`);
    assert.equal(created(stub)["start"], true);
    assert.deepEqual(JSON.parse((await kiln(["run", "--idle", "--json", "img"], { home: stub.home })).stdout), aVm());
  });
  test("SIGINT goes to the command, which decides", async () => {
    await using stub = await withGuest({
      serve: (client) => {
        sendOutput(client, "stdout", { offset: 0, text: "ready\n" });
        client.on("message", (data: Buffer) => {
          const message = JSON.parse(data.toString()) as { type: string; signal?: string };
          if (message.type === "signal")
            sendMessage(client, { type: "exit", exitCode: message.signal === "SIGINT" ? 42 : 1, signal: null, oomKilled: false });
        });
      },
    });
    const run = await kiln(["run", "img"], { home: stub.home, during: (child) => child.stdout?.once("data", () => child.kill("SIGINT")) });
    assert.deepEqual([run.exitCode, run.stdout], [42, "ready\n"]);
  });
  test("SIGINT while the VM is created cancels the operation and exits with 130", async () => {
    await using stub = await withGuest();
    const running = anOperation({ state: "running" });
    let interrupt = (): void => undefined;
    stub.on("POST", "/v1/vms", () => ({ json: running, status: 202 }));
    stub.on("GET", `/v1/operations/${running.id}`, () => {
      if (stub.calls("POST", `/v1/operations/${running.id}/cancel`).length > 0) return { json: anOperation({ state: "cancelled" }) };
      interrupt();
      return "hang";
    });
    stub.on("POST", `/v1/operations/${running.id}/cancel`, () => ({ json: running, status: 202 }));
    const run = await kiln(["run", "img"], { home: stub.home, during: (child) => (interrupt = () => void child.kill("SIGINT")) });
    assert.equal(run.exitCode, 130, run.stderr);
    assert.equal(stub.calls("POST", `/v1/operations/${running.id}/cancel`).length, 1);
  });
});

describe("exec", () => {
  const upper: Guest = {
    serve: (client) => {
      let offset = 0;
      client.on("message", (data: Buffer, isBinary) => {
        if (isBinary) {
          const text = Buffer.from(parseDataFrame(data).bytes).toString().toUpperCase();
          sendOutput(client, "stdout", { offset, text });
          offset += text.length;
        } else if (data.toString().includes("stdin-end")) {
          sendMessage(client, { type: "exit", exitCode: 0, signal: null, oomKilled: false });
        }
      });
    },
  };
  test("-i gives stdin to the command, whole and ended", async () => {
    await using stub = await withGuest(upper);
    const input = "some words\n".repeat(50_000);
    const run = await kiln(["exec", "-i", "web", "--", "tr", "a-z", "A-Z"], { home: stub.home, input });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.equal(run.stdout, input.toUpperCase());
  });
  test("-d leaves the command running once it has started", async () => {
    await using stub = await withGuest({ serve: () => undefined });
    const run = await kiln(["exec", "-d", "web", "sleep", "9"], { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout, run.stderr], [0, "", ""]);
  });
  test("a VM that does not run is 125", async () => {
    await using stub = await StubDaemon.listen();
    stub.onSocket(/exec$/, (client) =>
      sendMessage(client, { type: "error", problem: { code: "VM_NOT_RUNNING", detail: "web is exited" } }),
    );
    const run = await kiln(["exec", "web", "true"], { home: stub.home });
    assert.equal(run.exitCode, 125);
    assert.match(run.stderr, /^kiln: web is exited\n {2}hint: start it/);
  });
});

describe("an oci: image", () => {
  test("is opened by the command line and sent, then created from by its name", async () => {
    await using stub = await withGuest();
    const layout = join(stub.home, "layout");
    const blob = Buffer.alloc(3_000_000, 1);
    const digest = `sha256:${createHash("sha256").update(blob).digest("hex")}`;
    await mkdir(join(layout, "blobs/sha256"), { recursive: true });
    await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(join(layout, "index.json"), '{"manifests":[]}');
    await writeFile(join(layout, "blobs/sha256", digest.slice(7)), blob);
    let received = 0;
    stub.on("PUT", `/v1/content/${digest}`, ({ body }) => {
      received = body.length;
      return { json: {}, status: 201 };
    });
    stub.on("POST", "/v1/images/import", ({ body }) => {
      const { reference, tag } = JSON.parse(body.toString()) as Record<string, unknown>;
      assert.deepEqual([reference, tag], ["oci:./layout:1.0", "1.0"]);
      return {
        json:
          received > 0
            ? { missing: [], image: anImage({ reference: "oci:./layout:1.0" }) }
            : { missing: [{ digest, size: blob.length }], image: null },
      };
    });
    const run = await kiln(["run", "oci:./layout:1.0"], { home: stub.home, cwd: stub.home });
    assert.deepEqual([run.exitCode, run.stdout], [0, "hi\n"], run.stderr);
    assert.equal(received, blob.length);
    assert.deepEqual([created(stub)["image"], created(stub)["pull"]], ["oci:./layout:1.0", "never"]);
  });
  test("that is not there is IMAGE_SOURCE_MISSING, and nothing is created", async () => {
    await using stub = await withGuest();
    const run = await kiln(["run", "--json", "oci:./nowhere"], { home: stub.home, cwd: stub.home });
    assert.equal(run.exitCode, 125);
    assert.equal((JSON.parse(run.stderr) as Record<string, unknown>)["code"], "IMAGE_SOURCE_MISSING");
    assert.equal(stub.calls("POST", "/v1/vms").length, 0);
  });
});
