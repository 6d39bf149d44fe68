import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { armedFailpoint, declareFailpoint, failpoint, listFailpoints } from "./index.ts";
import { parseFailpoint } from "./failpoints.ts";

const SCRIPT = `
  const { declareFailpoint, failpoint } = await import(process.argv[1]);
  const point = declareFailpoint("test.here");
  for (const n of [1, 2, 3]) {
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
    assert.equal(armedFailpoint(), null);
    assert.equal(failpoint(declareFailpoint("test.idle")), undefined);
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

  it("is ignored without KILN_TEST=1", async () => {
    const end = await runArmed({ KILN_FAILPOINT: "test.here=kill" });
    assert.deepEqual([end.exitCode, end.stdout, end.stderr], [0, "passed 1\npassed 2\npassed 3\n", ""]);
  });

  it("of a malformed setting is an error", () => {
    const parse = (text: string) => parseFailpoint({ KILN_TEST: "1", KILN_FAILPOINT: text });
    assert.deepEqual(parse("a.b:12=error"), { name: "a.b", nth: 12, action: "error" });
    assert.equal(parse(""), null);
    for (const text of ["a", "a=", "a=die", "a:0=kill", "a:x=kill", "=kill", "a:1:2=kill"]) assert.throws(() => parse(text), TypeError);
  });
});
