import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { complaintsAbout } from "../crash/world.ts";
import { Ground } from "./ground.ts";
import { judgeNonces } from "./judge.ts";
import { Ledger } from "./ledger.ts";
import { readHostNotes } from "./nonces.ts";
import { runChaos } from "./runs.ts";

const quiet = { say: (): void => undefined, signal: new AbortController().signal };

test("random commands of eight clients on the fake driver, while daemons end, the disk fills and the registry misbehaves, leave nothing amiss", async () => {
  const { failed, ran } = await runChaos({ driver: "fake", seeds: 3, first: 1, ops: 40, clients: 8 }, quiet);
  assert.deepEqual([ran, failed], [3, []]);
});

test("random commands on guests of QEMU, while a daemon or a VMM is killed, leave nothing amiss", async () => {
  const { failed } = await runChaos({ driver: "qemu", seeds: 1, first: 1, ops: 12, clients: 4 }, quiet);
  assert.deepEqual(failed, []);
});

test("what a seed leaves behind is seen: files, staging, a process, a command that ran twice", async () => {
  await using ground = await Ground.create("fake");
  const { path } = ground.home;
  assert.deepEqual(await complaintsAbout(path, { action: "kill" }), []);
  await mkdir(join(path, "vms", "0123456789ab"));
  await writeFile(join(path, "staging", "left"), "");
  const left = spawn("sleep", ["1000"], { cwd: path, stdio: "ignore" });
  await once(left, "spawn");
  const complaints = (await complaintsAbout(path, { action: "kill" })).join("\n");
  left.kill("SIGKILL");
  await once(left, "exit");
  for (const what of [/orphans: .*0123456789ab/, /staging: \["left"\]/, new RegExp(`processes: .*${left.pid}`)])
    assert.match(complaints, what);
  await rm(join(path, "vms", "0123456789ab"), { recursive: true });
  await rm(join(path, "staging", "left"));
  assert.deepEqual(await complaintsAbout(path, { action: "kill" }), []);

  const ledger = new Ledger();
  ledger.begin("n-1", "an exec").acknowledged = true;
  await appendFile(ground.notes, "n-1\n");
  assert.deepEqual(judgeNonces(ledger.runs, await readHostNotes(ground)), []);
  await appendFile(ground.notes, "n-1\n");
  assert.deepEqual(judgeNonces(ledger.runs, await readHostNotes(ground)), ["an exec: it ran 2 times instead of 1"]);
});
