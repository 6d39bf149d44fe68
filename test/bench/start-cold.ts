import { join } from "node:path";
import type { Kiln } from "@kiln/sdk";
import { Sandbox } from "@kiln/sdk";
import { prepareBareBoot } from "./bare-boot.ts";
import { openBareAgent } from "./bare-agent.ts";
import { type BenchHome, IMAGE, openHome } from "./home.ts";
import { alternate, compare, type Figure, percentile, type Samples, timed } from "./measure.ts";

const STARTS = 10;
const EXECS = 200;
const NONE: Samples = { ms: [], failures: 1 };

const accelOf = async (home: BenchHome): Promise<string> => (await home.kiln.daemon.status()).drivers[0]?.accel ?? "tcg";

/** From the request to create a VM to the first byte of its first command's output. */
const startCold = async (kiln: Kiln): Promise<number> => {
  const began = performance.now();
  await using sandbox = await Sandbox.create({ kiln, image: IMAGE, startMode: "cold" });
  let ms = Number.NaN;
  await sandbox.exec(["busybox", "echo", "hi"], { onOutput: () => (ms = performance.now() - began) });
  return ms;
};

export const benchStartCold = async (): Promise<Figure> => {
  await using home = await openHome();
  const accel = await accelOf(home);
  const bareBoot = await prepareBareBoot(join(home.path, "kernels"), accel);
  const runs = { kiln: () => startCold(home.kiln), "bare boot": bareBoot };
  await alternate(1, runs);
  const { kiln = NONE, "bare boot": bare = NONE } = await alternate(STARTS, runs);
  return compare({
    name: "start.cold",
    ours: kiln,
    theirs: { "bare boot": bare },
    details: { accel },
    goal: { field: "bare boot", max: 1.35 },
  });
};

/**
 * One exec through SDK, daemon and agent, against what the agent alone needs from the request to the exit (over a bare
 * session, less the channel's round trip). Beside it: a shell's fork, exec and wait of the same command in the guest.
 */
export const benchExec = async (): Promise<Figure> => {
  await using home = await openHome();
  await using sandbox = await Sandbox.create({ kiln: home.kiln, image: IMAGE });
  await using alone = await openBareAgent(home.path);
  const runs = { exec: () => timed(() => sandbox.exec(COMMAND)), agent: () => alone.exec(COMMAND) };
  await alternate(10, runs);
  const { exec: ours = NONE, agent = NONE } = await alternate(EXECS, runs);
  const over = Math.round(((percentile(ours.ms, 0.5) ?? Number.NaN) - (percentile(agent.ms, 0.5) ?? Number.NaN)) * 100) / 100;
  const shell = await shellForkExec(sandbox);
  return compare({
    name: "exec",
    ours,
    theirs: { agent, "shell in the guest": { ms: [shell], failures: 0 } },
    details: { "ms over agent": over },
    goal: { field: "ms over agent", max: 3 },
  });
};

const COMMAND = ["/bin/busybox", "true"];

/** Milliseconds for each of many runs of the same binary, by the guest's own clock. */
const shellForkExec = async (sandbox: Sandbox): Promise<number> => {
  const loop = `i=0; while [ $i -lt ${EXECS} ]; do /bin/busybox true; i=$((i+1)); done`;
  const script = `read a b < /proc/uptime; ${loop}; read c d < /proc/uptime; echo $a $c`;
  const { stdout } = await sandbox.exec(["busybox", "sh", "-c", script]);
  const [began = Number.NaN, ended = Number.NaN] = stdout.trim().split(" ").map(Number);
  return Math.round(((ended - began) * 100_000) / EXECS) / 100;
};
