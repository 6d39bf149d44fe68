import assert from "node:assert/strict";
import { access, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import { StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "../testing/kiln-process.ts";
import { ensureDaemon } from "./ensure.ts";

let root = "";
before(async () => {
  root = await mkdtemp(join(tmpdir(), "kiln-ensure-"));
});
after(() => rm(root, { recursive: true }));

const has = (code: ErrorCode) => (error: unknown) => error instanceof KilnError && error.code === code;
const { signal } = new AbortController();

/** A daemon of a few lines: locks the home as the real one, or fails as told. */
const program = async (name: string, body: string): Promise<string> => {
  const path = join(root, `${name}.mjs`);
  await writeFile(
    path,
    `import { createServer } from "node:net"; import { mkdirSync, appendFileSync } from "node:fs"; import { setTimeout as sleep } from "node:timers/promises";\nconst home = process.argv[3];\n${body}`,
  );
  return path;
};

const problem = (code: string) =>
  `process.stderr.write(JSON.stringify({ type: "urn:kiln:error:${code}", code: "${code}", detail: "said the daemon" }) + "\\n"); process.exit(1);`;

/** Lives for two seconds, so that a test leaves no process behind. */
const serving = `
try { mkdirSync(home + "/locked"); } catch { ${problem("HOME_IN_USE")} }
await sleep(200);
appendFileSync(home + "/started", process.pid + "\\n");
createServer((socket) => socket.end()).listen(home + "/kiln.sock");
setTimeout(() => process.exit(0), 2000);`;

describe("the daemon is started where none answers", () => {
  test("twenty at once on an empty home get one daemon, and the home is 0700", async () => {
    const home = join(root, "deep/home");
    const entry = await program("serving", serving);
    const all = await Promise.all(Array.from({ length: 20 }, () => ensureDaemon({ home, env: process.env, signal, entry })));
    assert.equal(all.filter((one) => !one.wasRunning).length, 20);
    assert.equal((await readFile(join(home, "started"), "utf8")).trim().split("\n").length, 1);
    assert.equal((await stat(home)).mode & 0o777, 0o700);
    assert.deepEqual(await ensureDaemon({ home, env: process.env, signal, entry }), { wasRunning: true });
  });
  test("a daemon that ends and leaves the home free is followed by another one", async () => {
    const home = join(root, "leaving");
    const entry = await program(
      "leaving",
      `try { mkdirSync(home + "/first"); ${problem("HOME_IN_USE")} } catch (error) { if (error.code !== "EEXIST") throw error; }\n${serving}`,
    );
    assert.deepEqual(await ensureDaemon({ home, env: process.env, signal, entry }), { wasRunning: false });
  });
  test("a daemon that is killed before it answers is followed by another one, once", async () => {
    const dies = `process.kill(process.pid, "SIGKILL"); await sleep(10_000);`;
    const times = (count: number): string =>
      `const { readFileSync, existsSync } = await import("node:fs"); const log = home + "/deaths";
       if (!existsSync(log) || readFileSync(log, "utf8").length < ${count}) { appendFileSync(log, "x"); ${dies} }\n${serving}`;
    const [once, twice] = [await program("killed-once", times(1)), await program("killed-twice", times(2))];
    assert.deepEqual(await ensureDaemon({ home: join(root, "once"), env: process.env, signal, entry: once }), { wasRunning: false });
    await assert.rejects(
      ensureDaemon({ home: join(root, "twice"), env: process.env, signal, entry: twice }),
      (error) => error instanceof KilnError && error.code === "DAEMON_UNREACHABLE" && error.message.includes("SIGKILL"),
    );
  });
  test("a daemon that refuses to start says why in its own words", async () => {
    const entry = await program("refusing", problem("HOME_VERSION"));
    await assert.rejects(
      ensureDaemon({ home: join(root, "refused"), env: process.env, signal, entry }),
      (error) => has("HOME_VERSION")(error) && error instanceof Error && error.message === "said the daemon",
    );
  });
  test("a daemon that crashes is shown with its last lines", async () => {
    const entry = await program("crashing", `throw new Error("the sky fell");`);
    await assert.rejects(ensureDaemon({ home: join(root, "crashed"), env: process.env, signal, entry }), (error) => {
      assert(error instanceof KilnError && error.code === "DAEMON_UNREACHABLE");
      assert(error.remoteCauses.some((line) => line.includes("the sky fell")));
      assert.match(error.hint, /daemon\.log/);
      return true;
    });
  });
  test("a daemon that never answers is given up", async () => {
    const entry = await program("silent", "setTimeout(() => process.exit(0), 1500);");
    await assert.rejects(
      ensureDaemon({ home: join(root, "silent"), env: process.env, signal, entry, timeoutMs: 300 }),
      has("DAEMON_UNREACHABLE"),
    );
  });
  test("a home that is no directory is HOME_INVALID (I38)", async () => {
    await writeFile(join(root, "file"), "");
    for (const home of [join(root, "file"), join(root, "file/below")]) {
      await assert.rejects(ensureDaemon({ home, env: process.env, signal, entry: "/nonexistent" }), has("HOME_INVALID"));
    }
  });
});

describe("daemon status", () => {
  test("of a home without one is 3 and starts none", async () => {
    const home = join(root, "untouched");
    const run = await kiln(["daemon", "status", "--json"], { home });
    assert.equal(run.exitCode, 3);
    assert.deepEqual(JSON.parse(run.stdout), { running: false, home, socket: join(home, "kiln.sock") });
    await assert.rejects(access(home));
    assert.equal(
      (await kiln(["--home", "untouched", "daemon", "status"], { home: "/elsewhere", cwd: root })).stdout,
      `the daemon of ${home} does not run\n`,
    );
  });
  test("of one that runs is its own", async () => {
    await using stub = await StubDaemon.listen();
    const status = {
      running: true,
      pid: 1,
      startedAt: "x",
      version: "0",
      apiVersion: "v1",
      home: stub.home,
      socket: stub.socketPath,
      drivers: [],
      vms: {},
      operations: {},
      capacity: {},
    };
    stub.on("GET", "/v1/daemon", () => ({ json: status }));
    const run = await kiln(["daemon", "status", "--json"], { home: stub.home });
    assert.equal(run.exitCode, 0);
    assert.deepEqual(JSON.parse(run.stdout), status);
  });
});
