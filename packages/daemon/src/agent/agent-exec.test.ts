import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { retry, systemClock, systemRandom } from "@kiln/std";
import type { AgentSession } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";
import { collect, execSpec, follow, setupOf, TestAgent } from "./test-guest.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });

const ready = async (context: TestContext): Promise<{ agent: TestAgent; session: AgentSession; directory: string }> => {
  const agent = await TestAgent.start();
  const directory = await mkdtemp(join(tmpdir(), "kiln-exec-"));
  context.after(async () => {
    await agent[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
  const session = await connector.connect(await agent.dial(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  return { agent, session, directory };
};

const sh = (id: string, script: string) => execSpec({ id, argv: ["/bin/sh", "-c", script] });

test("a command's output, exit code and signal arrive", async (context) => {
  const { session } = await ready(context);
  const both = await collect(session, sh("a", "echo out; echo err >&2; exit 3"));
  const killed = await collect(session, sh("b", "kill -9 $$"));
  assert.deepEqual([both.stdout, both.stderr, both.status.exitCode, both.status.signal], ["out\n", "err\n", 3, null]);
  assert.deepEqual([killed.status.exitCode, killed.status.signal], [null, "SIGKILL"]);
});

test("I26 an exec id that is asked for again, at once or later, runs once", async (context) => {
  const { session, directory } = await ready(context);
  const spec = sh("once", `echo ran >> ${directory}/count`);
  await Promise.all(Array.from({ length: 5 }, () => session.exec(spec, { signal })));
  await follow(session, "once");
  await session.exec(spec, { signal });
  assert.equal(await readFile(join(directory, "count"), "utf8"), "ran\n");
  await session.forget("once", { signal });
  await collect(session, spec);
  assert.equal(await readFile(join(directory, "count"), "utf8"), "ran\nran\n");
});

test("I27 twenty commands at once all answer", async (context) => {
  const { session } = await ready(context);
  const runs = await Promise.all(
    Array.from({ length: 20 }, (_, index) => collect(session, sh(`p${index}`, `echo ${index}; exit ${index}`))),
  );
  assert.deepEqual(
    runs.map((run) => [run.stdout, run.status.exitCode]),
    Array.from({ length: 20 }, (_, index) => [`${index}\n`, index]),
  );
});

test("what cannot be started is 127, 126 or an unknown user, and leaves no command behind", async (context) => {
  const { session } = await ready(context);
  const refused = async (spec: Partial<Parameters<typeof execSpec>[0]>, code: string) =>
    assert.rejects(session.exec(execSpec({ id: "x", argv: ["true"], ...spec }), { signal }), { code });
  await refused({ argv: ["no-such-command"] }, "COMMAND_NOT_FOUND");
  await refused({ argv: ["/no/such/command"] }, "COMMAND_NOT_FOUND");
  await refused({ argv: ["/etc/passwd"] }, "COMMAND_NOT_EXECUTABLE");
  await refused({ argv: ["/tmp"] }, "COMMAND_NOT_EXECUTABLE");
  await refused({ cwd: "/etc/passwd/below" }, "COMMAND_NOT_EXECUTABLE");
  await refused({ user: "no-such-user" }, "GUEST_USER_UNKNOWN");
  await refused({ user: "root:no-such-group" }, "GUEST_USER_UNKNOWN");
  assert.deepEqual(await session.list({ signal }), []);
});

test(
  "a command gets its environment, its directory made, and its user's groups and home",
  { skip: process.getuid?.() !== 0 },
  async (context) => {
    const { session, directory } = await ready(context);
    const own = await collect(session, {
      ...sh("a", "pwd; echo $GREETING $HOME; id -u; id -G"),
      cwd: `${directory}/a/b`,
      env: ["GREETING=hi"],
    });
    assert.equal(own.stdout, `${directory}/a/b\nhi /root\n0\n0\n`);
    const numbers = await collect(session, { ...sh("b", "id -u; id -G; echo $HOME; echo again > /dev/stdout"), user: "4242:4343" });
    assert.equal(numbers.stdout, "4242\n4343\n/\nagain\n");
  },
);

test("stdin of 10 MB comes back whole from cat", async (context) => {
  const { session } = await ready(context);
  const text = Buffer.from(Array.from({ length: 1_310_720 }, (_, index) => index.toString(16).padStart(7, "0")).join("\n"));
  const { stdout } = await collect(session, execSpec({ id: "cat", argv: ["cat"], stdin: true }), text);
  assert.equal(stdout.length, text.length);
  assert.ok(Buffer.from(stdout).equals(text));
});

test("stdin to a command that does not read it resolves when the command ends", async (context) => {
  const { session } = await ready(context);
  const { status } = await collect(
    session,
    execSpec({ id: "t", argv: ["sh", "-c", "exec <&-; sleep 0.1"], stdin: true }),
    new Uint8Array(1_000_000),
  );
  assert.equal(status.exitCode, 0);
});

test("a signal by name reaches the command", async (context) => {
  const { session } = await ready(context);
  await session.exec(sh("s", "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.01; done"), { signal });
  await using attachment = await session.attach("s", { signal });
  let text = "";
  for await (const event of attachment.events) {
    if (event.type === "exit") assert.equal(event.status.exitCode, 9);
    else text += Buffer.from(event.bytes).toString();
    if (text === "ready\n" && event.type === "output") await session.sendSignal("s", "usr1", { signal });
  }
  assert.equal(text, "ready\ncaught\n");
});

test("a terminal has the asked size, follows a resize and merges stderr", async (context) => {
  const { session } = await ready(context);
  const script = "trap 'stty size; exit' WINCH; stty size; echo err >&2; while :; do sleep 0.01; done";
  await session.exec({ ...sh("tty", script), tty: { rows: 33, cols: 77 } }, { signal });
  await using attachment = await session.attach("tty", { signal });
  let text = "";
  for await (const event of attachment.events) {
    if (event.type === "exit") break;
    text += new TextDecoder().decode(event.bytes);
    if (text.includes("err")) await attachment.resize({ rows: 40, cols: 100 });
  }
  assert.equal(text, "33 77\r\nerr\r\n40 100\r\n");
});

test("the end of stdin on a terminal is its end-of-file character", async (context) => {
  const { session } = await ready(context);
  const { stdout, status } = await collect(
    session,
    { ...execSpec({ id: "c", argv: ["cat"], stdin: true }), tty: { rows: 24, cols: 80 } },
    Buffer.from("line\n"),
  );
  assert.deepEqual([stdout, status.exitCode], ["line\r\nline\r\n", 0]);
});

test("output that a left process writes later does not delay the exit, nor kill that process", async (context) => {
  const { session, directory } = await ready(context);
  const run = await collect(session, sh("bg", `(sleep 0.3; echo late; echo alive > ${directory}/alive) & echo early`));
  assert.equal(run.stdout, "early\n");
  const alive = () => readFile(join(directory, "alive"), "utf8");
  assert.equal(await retry(alive, { attempts: 100, baseMs: 50, maxMs: 100, clock: systemClock, signal }), "alive\n");
});

test("an argument list of nearly a mebibyte passes in parts; one over it is refused", async (context) => {
  const { session } = await ready(context);
  const args = Array.from({ length: 10 }, () => "x".repeat(100_000));
  const { stdout } = await collect(session, execSpec({ id: "big", argv: ["sh", "-c", "echo $#", "sh", ...args] }));
  assert.equal(stdout, "10\n");
  await assert.rejects(session.exec(execSpec({ id: "huge", argv: ["echo", ...args, ...args] }), { signal }), { code: "REQUEST_TOO_LARGE" });
});

test("a running command is not forgotten, a forgotten one is not found", async (context) => {
  const { session } = await ready(context);
  await session.exec(sh("r", "sleep 100"), { signal });
  await assert.rejects(session.forget("r", { signal }), { code: "VM_STATE_CONFLICT" });
  await session.sendSignal("r", "KILL", { signal });
  await follow(session, "r");
  await session.forget("r", { signal });
  await session.forget("r", { signal });
  await assert.rejects(session.attach("r", { signal }), { code: "EXEC_NOT_FOUND" });
});

test("power off ends commands, is acknowledged, and the agent is gone", async (context) => {
  const { agent, session } = await ready(context);
  await session.exec(sh("r", "trap '' TERM; sleep 100"), { signal });
  await session.powerOff(100, { signal });
  assert.equal(await agent.exited(), 0);
});
