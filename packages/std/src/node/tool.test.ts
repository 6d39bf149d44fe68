import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { describe, it } from "node:test";
import { identifyProcess, processState, runTool, ToolError, type ProcessIdentity } from "./index.ts";

const forever = () => new AbortController().signal;
const sh = (script: string, options: Partial<Parameters<typeof runTool>[2]> = {}) =>
  runTool("sh", ["-c", script], { signal: forever(), ...options });
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("a tool that ends", () => {
  it("gives its output, byte for byte", async () => {
    const { stdout, stderr } = await sh("printf 'a\\000b'; echo careful >&2");
    assert.deepEqual([...stdout], [97, 0, 98]);
    assert.equal(stderr, "careful\n");
  });

  it("reads the given input, or an empty one", async () => {
    const stdin = new Uint8Array(1_000_000).fill(120);
    assert.equal((await sh("cat", { stdin })).stdout.byteLength, 1_000_000);
    assert.equal((await sh("cat")).stdout.byteLength, 0);
    assert.equal(text((await sh("head -c 1", { stdin })).stdout), "x");
  });

  it("runs in the given directory with the given environment only", async () => {
    const cwd = tmpdir();
    const { stdout } = await sh('echo "$PWD $COLOUR $HOME"', { cwd, env: { PATH: process.env["PATH"], COLOUR: "red" } });
    assert.equal(text(stdout).trim(), `${cwd} red`);
  });

  it("hands its output over in pieces, and waits while they are taken", async () => {
    let taken = 0;
    let atOnce = 0;
    const onStdout = async (chunk: Uint8Array) => {
      atOnce += 1;
      assert.equal(atOnce, 1);
      await new Promise((resolve) => setTimeout(resolve, 1));
      taken += chunk.byteLength;
      atOnce -= 1;
    };
    const { stdout } = await sh("head -c 1000000 /dev/zero", { onStdout, maxOutputBytes: 10 });
    assert.deepEqual([taken, stdout.byteLength], [1_000_000, 0]);
  });
});

describe("a tool that fails", () => {
  it("is an error with its exit code or signal and what it said", async () => {
    await assert.rejects(sh("echo no space >&2; exit 3"), (error) => {
      assert.ok(error instanceof ToolError);
      assert.deepEqual([error.command, error.exitCode, error.signal, error.code], ["sh", 3, null, "EXIT"]);
      assert.match(error.message, /sh failed with exit code 3: no space/);
      return true;
    });
    await assert.rejects(sh("kill -9 $$"), { name: "ToolError", exitCode: null, signal: "SIGKILL" });
  });

  it("is ENOENT if it is missing, and something else if only the directory is", async () => {
    const signal = forever();
    await assert.rejects(runTool("no-such-tool", [], { signal }), { name: "ToolError", code: "ENOENT", exitCode: null });
    await assert.rejects(runTool("no-such-tool", [], { signal, stdin: new Uint8Array(9) }), { code: "ENOENT" });
    await assert.rejects(runTool("/etc/passwd", [], { signal }), { name: "ToolError", code: "EACCES" });
    await assert.rejects(sh("true", { cwd: "/no/such/directory" }), { name: "Error", code: "ENOENT" });
    await assert.rejects(runTool("true", ["a\0b"], { signal }), { name: "ToolError" });
  });

  it("keeps the end of what it said on stderr, in bounded memory", async () => {
    const { stderr } = await sh("head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2");
    assert.ok(stderr.length <= 64 * 1024 + 1 && stderr.startsWith("…") && stderr.endsWith("the end\n"));
  });

  it("is killed when it writes more than it may", async () => {
    await assert.rejects(sh("yes", { maxOutputBytes: 100_000 }), { name: "ToolError", code: "EOVERFLOW" });
  });

  it("is killed when nobody can take its output", async () => {
    const onStdout = () => {
      throw new Error("the disk is full");
    };
    await assert.rejects(sh("yes", { onStdout }), /the disk is full/);
  });
});

describe("aborting", () => {
  it("I11 kills the tool with its children and returns after their end", async () => {
    const stop = new AbortController();
    const found: ProcessIdentity[] = [];
    const onStdout = async (chunk: Uint8Array) => {
      for (const pid of text(chunk).trim().split("\n")) {
        const identity = await identifyProcess(Number(pid));
        assert.ok(identity !== null);
        found.push(identity);
      }
      if (found.length === 2) stop.abort(new Error("Ctrl-C"));
    };
    const script = "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo \"$$\n$!\"; wait";
    await assert.rejects(sh(script, { signal: stop.signal, onStdout }), /Ctrl-C/);
    assert.equal(found.length, 2);
    for (const identity of found) await untilDead(identity);
  });

  it("before the start starts nothing", async () => {
    await assert.rejects(sh("true", { signal: AbortSignal.abort(new Error("too late")) }), /too late/);
  });
});

it("a process that a tool leaves behind does not hold the call open for ever", async () => {
  const { stdout } = await sh("echo done; sleep 60 &");
  assert.equal(text(stdout), "done\n");
});

/** The kernel closes the files of a killed process a moment before it shows it as dead. */
async function untilDead(identity: ProcessIdentity): Promise<void> {
  const endMs = Date.now() + 1_000;
  while ((await processState(identity)) !== "dead") assert.ok(Date.now() < endMs, `${identity.pid} lives on`);
}
