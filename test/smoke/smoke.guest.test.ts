import assert from "node:assert/strict";
import { test } from "node:test";
import { renderEnded } from "./report.ts";
import { type Ended, runScenarios } from "./runner.ts";
import { isolated } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";
import { guest, shell } from "./guests.ts";
import { Stage } from "./stage.ts";

/** What no other test on guests does, and one that fails. */
const CHOSEN = ["start-attach", "logs-restart", "attach", "events-cursor", "rm-running"];

const BROKEN = isolated("broken", "it fails", async ({ kiln, vm }) => {
  await kiln.ok("run", "--name", vm("left"), ...guest(), ...shell("echo the guest said this"));
  assert.fail("seven is not eight");
});

test("I41 scenarios pass side by side on real guests; of one that fails the report has what its guest wrote and its phases; nothing is left", async () => {
  const { signal } = new AbortController();
  const stage = await Stage.create({ signal });
  const ended = new Map<string, Ended>();
  try {
    const scenarios = [BROKEN, ...SCENARIOS.filter(({ name }) => CHOSEN.includes(name))];
    assert.equal(scenarios.length, CHOSEN.length + 1);
    await runScenarios(scenarios, { host: stage, jobs: 2, signal, onEnd: (one) => ended.set(one.scenario.name, one) });
  } finally {
    assert.deepEqual(await stage.close(), []);
  }
  for (const name of CHOSEN) {
    const one = ended.get(name) ?? assert.fail(name);
    assert.equal(one.state, "passed", renderEnded(one, { verbose: true }));
  }
  const { state, report = "" } = ended.get("broken") ?? {};
  assert.equal(state, "failed");
  for (const words of [
    /seven is not eight/,
    /--- what broken-left wrote\nthe guest said this\n/,
    /"kind":"vm\.start".*"name":"restore"/,
    /daemon is ready/,
  ]) {
    assert.match(report, words);
  }
});
