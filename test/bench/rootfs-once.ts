/**
 * Builds one rootfs from the layers (JSON in the first argument) into the second, in a process of its own, as a daemon does it that has started
 * before: compiled code is kept between runs. Prints a RootfsRun as JSON.
 */
import { readFileSync } from "node:fs";
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";

export interface RootfsRun {
  readonly ms: number;
  /** Of all threads. */
  readonly cpuMs: number;
  /** The most memory that the whole process has had (VmHWM). */
  readonly peakBytes: number;
  readonly sizeBytes: number;
}

const [layers = "[]", target = ""] = process.argv.slice(2);
const interrupt = new AbortController();
process.once("SIGTERM", () => interrupt.abort());
const cpu = process.cpuUsage();
const began = performance.now();
const request = { layers: JSON.parse(layers) as LayerSource[], target, key: "b".repeat(64) };
const { sizeBytes } = await buildRootfs(request, { signal: interrupt.signal });
const ms = performance.now() - began;
const { user, system } = process.cpuUsage(cpu);
const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
const run: RootfsRun = { ms, cpuMs: (user + system) / 1000, peakBytes: Number(peak) * 1024, sizeBytes };
process.stdout.write(JSON.stringify(run));
