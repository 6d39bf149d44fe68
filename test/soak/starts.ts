import { readdir } from "node:fs/promises";
import { loadavg } from "node:os";
import { join } from "node:path";
import type { DfReport, OperationView, VmView } from "@kiln/protocol";
import { type Kiln, Sandbox } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { percentile } from "../bench/measure.ts";
import { TestHome } from "../e2e/home.ts";
import type { Soak } from "./main.ts";

const IMAGE = "deb:busybox-static";
const SAY_EVERY = 50;

/** Starts in a row from a pre-boot snapshot, each with one command whose output has to be right: none fails, and nothing is left. */
export const soakStarts: Soak = {
  count: 400,
  run: async (count, say) => {
    await using home = await TestHome.create();
    await home.ok("kernel", "warm");
    await home.ok("pull", IMAGE);
    using kiln = connect({ home: home.path });
    const complaints: string[] = [];
    const ms: number[] = [];
    let cold = 0;
    for (let start = 1; start <= count; start += 1) {
      try {
        const { path, took } = await startOnce(kiln, `start ${start}`);
        ms.push(took);
        if (path !== "preboot") cold += 1;
      } catch (error) {
        complaints.push(`start ${start}: ${error instanceof Error ? error.message : String(error)}`);
      }
      if (start % SAY_EVERY === 0) say(`${start} of ${count}, ${complaints.length} failures, load ${loadavg()[0]?.toFixed(1)}`);
    }
    const failures = complaints.length;
    if (cold > 0) complaints.push(`${cold} starts were cold`);
    complaints.push(...(await leftovers(home)));
    await home.ok("daemon", "stop");
    const alive = await home.processes();
    if (alive.length > 0) complaints.push(`processes are left: ${alive.join(", ")}`);
    return { complaints, figures: { failures, cold, p50: percentile(ms, 0.5) ?? Number.NaN, p99: percentile(ms, 0.99) ?? Number.NaN } };
  },
};

const startOnce = async (kiln: Kiln, word: string): Promise<{ path: string | null; took: number }> => {
  const began = performance.now();
  await using sandbox = await Sandbox.create({ kiln, image: IMAGE });
  const { stdout, exitCode } = await sandbox.exec(["busybox", "echo", word]);
  const took = performance.now() - began;
  if (exitCode !== 0 || stdout !== `${word}\n`) throw new Error(`the command ended with ${exitCode} and said ${JSON.stringify(stdout)}`);
  return { path: (await kiln.vms.get(sandbox.id)).startPath, took };
};

/** What is there with no VM left: all of it is a defect. */
const leftovers = async (home: TestHome): Promise<readonly string[]> => {
  const { orphans } = await home.json<DfReport>("df");
  const vms = await home.json<VmView[]>("ps", "-a");
  const operations = await home.json<OperationView[]>("op", "ls");
  const directories = await readdir(join(home.path, "vms"));
  const staged = await readdir(join(home.path, "staging"));
  const found = { orphans, vms, operations, directories, staged };
  return Object.entries(found).flatMap(([what, left]) => (left.length === 0 ? [] : [`${what} are left: ${JSON.stringify(left)}`]));
};
