import { DEFAULTS } from "@kiln/protocol";
import type { Kiln } from "@kiln/sdk";
import { Sandbox } from "@kiln/sdk";
import { openBareRestore } from "./bare-restore.ts";
import { familyCpuMs } from "./cpu.ts";
import { type FreshImage, FreshImages, IMAGE_KINDS } from "./fresh-images.ts";
import { openHome } from "./home.ts";
import { compare, type Figure, Phases, type Samples } from "./measure.ts";

const ROUNDS = 10;
const COMMAND = ["/bin/busybox", "echo", "hi"];
const GOAL_MS = 200;

/** From the request to create a VM to the first byte of its first command's output. */
export const startFresh = async (kiln: Kiln, image: string, how: { path: "preboot" | "pool"; phases: Phases }): Promise<number> => {
  const began = performance.now();
  await using sandbox = await Sandbox.create({ kiln, image });
  const created = performance.now();
  let ms = Number.NaN;
  await sandbox.exec(COMMAND, { onOutput: () => (ms = performance.now() - began) });
  const { startPath, timings, startReason } = await kiln.vms.get(sandbox.id);
  if (startPath !== how.path) throw new Error(`the VM started ${startPath}: ${startReason}`);
  how.phases.add({ ...timings, "until it runs": created - began, "first exec": ms - (created - began) });
  return ms;
};

/**
 * Each image is started from once: one of a kind by Kiln, the next of that kind by the driver alone from the same
 * snapshot. None has been read since its rootfs was written.
 */
export const benchStartPreboot = async (): Promise<Figure> => {
  await using home = await openHome();
  const { kiln } = home;
  const { cpus, memoryBytes } = DEFAULTS;
  await kiln.operations.result(await kiln.kernels.warm({ cpus, memoryBytes }));
  const { drivers, pid } = await kiln.daemon.status();
  await using bare = await openBareRestore(home.path, { cpus, memoryBytes, accel: drivers[0]?.accel ?? "tcg" });
  await using images = new FreshImages(home);
  const [phases, floorPhases] = [new Phases(), new Phases()];
  const cpu = { kiln: 0, floor: 0 };
  const ours = async ({ reference }: FreshImage): Promise<number> => {
    const before = (await familyCpuMs(pid)) + (await familyCpuMs(process.pid));
    const ms = await startFresh(kiln, reference, { path: "preboot", phases });
    cpu.kiln += (await familyCpuMs(pid)) + (await familyCpuMs(process.pid)) - before;
    return ms;
  };
  const theirs = async ({ rootfs }: FreshImage): Promise<number> => {
    const before = await familyCpuMs(process.pid);
    const { total = Number.NaN, ...steps } = await bare.start(rootfs, COMMAND);
    cpu.floor += (await familyCpuMs(process.pid)) - before;
    floorPhases.add(steps);
    return total;
  };
  const samples = { ours: none(), floor: none() };
  // one of each that does not count: the daemon's own code is loaded at its first use
  const [first, second] = [await images.make("small"), await images.make("small")];
  await ours(first);
  await theirs(second);
  [cpu.kiln, cpu.floor] = [0, 0];
  phases.clear();
  floorPhases.clear();
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const kind of IMAGE_KINDS) {
      const [one, other] = [await images.make(kind), await images.make(kind)];
      await count(samples.ours, () => ours(one));
      await count(samples.floor, () => theirs(other));
    }
  }
  const n = samples.ours.ms.length;
  const details = {
    ...phases.medians(""),
    ...floorPhases.medians("floor."),
    "CPU ms with the VMM, until it is gone": Math.round(cpu.kiln / n),
    "floor's CPU ms": Math.round(cpu.floor / samples.floor.ms.length),
  };
  return compare({
    ...{ name: "start.preboot", ours: samples.ours, theirs: { floor: samples.floor }, details },
    goal: { field: "p50", max: GOAL_MS },
    furtherGoals: [{ field: "floor", max: 1.35 }],
  });
};

const none = (): { ms: number[]; failures: number } => ({ ms: [], failures: 0 });

/** A start that throws counts as a failure. */
export const count = async (samples: { ms: number[]; failures: number } & Samples, run: () => Promise<number>): Promise<void> => {
  try {
    samples.ms.push(await run());
  } catch (error) {
    samples.failures += 1;
    process.stderr.write(`bench: a start failed: ${error instanceof Error ? error.message : String(error)}\n`);
  }
};
