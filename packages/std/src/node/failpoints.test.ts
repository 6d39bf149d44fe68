import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { armedFailpoints, declareFailpoint, failpoint, failpointNow, listFailpoints } from "./index.ts";
import { parseFailpoints } from "./failpoints.ts";

const SCRIPT = `
  const { declareFailpoint, failpoint, failpointNow } = await import(process.argv[1]);
  const [point, inTurn] = [declareFailpoint("test.here"), declareFailpoint("test.now")];
  for (const n of [1, 2, 3]) {
    failpointNow(inTurn);
    const paused = failpoint(point);
    console.log("passed " + n);
    await paused;
  }
`;

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: unknown;
  readonly signal: unknown;
}

/** Runs three hits of `test.here`; a paused process is ended as soon as it says so. */
async function runArmed(env: Record<string, string>): Promise<Ended> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", SCRIPT, import.meta.resolve("./index.ts")], {
    env: { PATH: process.env["PATH"], ...env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
    if (stderr.includes(" pause")) setTimeout(() => child.kill("SIGTERM"), 50);
  });
  const end: unknown[] = await once(child, "close");
  return { stdout, stderr, exitCode: end[0], signal: end[1] };
}

describe("a failpoint", () => {
  it("that is not armed returns nothing to wait for", () => {
    assert.deepEqual(armedFailpoints(), []);
    const point = declareFailpoint("test.idle");
    assert.equal(failpoint(point), undefined);
    assert.doesNotThrow(() => failpointNow(point));
  });

  it("is listed once declared, and a name is declared once", () => {
    declareFailpoint("test.listed");
    assert.ok(listFailpoints().includes("test.listed") && listFailpoints().includes("publish.named"));
    assert.throws(() => declareFailpoint("test.listed"), /declared twice/);
    assert.throws(() => declareFailpoint("two words"), TypeError);
  });

  it("kills the process at the nth hit", async () => {
    const end = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.here:2=kill" });
    assert.deepEqual([end.signal, end.stdout, end.stderr], ["SIGKILL", "passed 1\n", "failpoint test.here kill\n"]);
  });

  it("throws at the first hit unless told otherwise", async () => {
    const end = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.here=error" });
    assert.deepEqual([end.exitCode, end.stdout], [1, ""]);
    assert.match(end.stderr, /FailpointError: failpoint test\.here/);
  });

  it("pauses for ever", async () => {
    const end = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.here:3=pause" });
    assert.deepEqual([end.signal, end.stdout], ["SIGTERM", "passed 1\npassed 2\npassed 3\n"]);
  });

  it("gathers who comes until all are there", async () => {
    const alone = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.here:3=gather" });
    assert.equal(alone.stdout, "passed 1\n", "the first waits for two more, which never come");
    const all = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.here=gather" });
    assert.equal(all.stdout, "passed 1\npassed 2\npassed 3\n");
    const script = `
      const { declareFailpoint, failpoint } = await import(process.argv[1]);
      const point = declareFailpoint("test.here");
      for (const n of [1, 2, 3]) void Promise.resolve(failpoint(point)).then(() => console.log("went " + n));
      console.log("three are held");
      setTimeout(() => void Promise.resolve(failpoint(point)).then(() => console.log("went 4")), 20);
    `;
    const env = { PATH: process.env["PATH"], KILN_TEST: "1", KILN_FAILPOINT: "test.here:4=gather" };
    const child = spawn(process.execPath, ["--input-type=module", "-e", script, import.meta.resolve("./index.ts")], { env });
    let stdout = "";
    child.stdout.on("data", (chunk) => (stdout += String(chunk)));
    await once(child, "close");
    assert.deepEqual(stdout.trim().split("\n").toSorted(), ["three are held", "went 1", "went 2", "went 3", "went 4"]);
    assert.ok(stdout.startsWith("three are held\n"));
  });

  it("in the middle of a turn kills and throws before it returns, and refuses to pause", async () => {
    const killed = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.now:2=kill" });
    assert.deepEqual([killed.signal, killed.stdout], ["SIGKILL", "passed 1\n"]);
    const thrown = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.now=error" });
    assert.match(thrown.stderr, /FailpointError: failpoint test\.now\n/);
    const paused = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "test.now=pause" });
    assert.match(paused.stderr, /FailpointError: failpoint test\.now is in the middle of a turn/);
  });

  it("of a list acts each at its own hit, and trace writes every hit of every one", async () => {
    const end = await runArmed({ KILN_TEST: "1", KILN_FAILPOINT: "trace,test.here:9=kill,test.now:3=error" });
    assert.equal(end.stdout, "passed 1\npassed 2\n");
    const lines = end.stderr.split("\n").filter((line) => line.startsWith("failpoint "));
    const round = ["failpoint test.now", "failpoint test.here"];
    assert.deepEqual(lines, [...round, ...round, "failpoint test.now", "failpoint test.now error"]);
  });

  it("is ignored without KILN_TEST=1", async () => {
    const end = await runArmed({ KILN_FAILPOINT: "test.here=kill" });
    assert.deepEqual([end.exitCode, end.stdout, end.stderr], [0, "passed 1\npassed 2\npassed 3\n", ""]);
  });

  it("of a malformed setting is an error", () => {
    const parse = (text: string) => parseFailpoints({ KILN_TEST: "1", KILN_FAILPOINT: text });
    const last = { name: "c", nth: 1, action: "kill" };
    assert.deepEqual(parse("a.b:12=error"), { armed: [{ name: "a.b", nth: 12, action: "error" }], trace: false });
    assert.deepEqual(parse("a.b:12=error,trace,c=kill"), { armed: [{ name: "a.b", nth: 12, action: "error" }, last], trace: true });
    assert.equal(parse(""), null);
    for (const text of ["a", "a=", "a=die", "a:0=kill", "a:x=kill", "=kill", "a:1:2=kill", "a=trace", "a=kill,", "a=kill;b=kill"]) {
      assert.throws(() => parse(text), TypeError);
    }
  });
});
