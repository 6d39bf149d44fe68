import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { alternate, compare, type Figure, percentile, timed } from "./measure.ts";

const KILN = fileURLToPath(new URL("../../kiln", import.meta.url));
const RUNS = 30;
const GOAL_MS = 60;

const run = (command: string, args: readonly string[]) => async (): Promise<number> =>
  timed(async () => {
    const [code] = (await once(spawn(command, args, { stdio: "ignore" }), "close")) as [number | null];
    if (code !== 0) throw new Error(`${command} ${args.join(" ")} exited with ${code}`);
  });

/** The whole of `./kiln version`, shell and all, against Node doing nothing. */
export const benchCliStart = async (): Promise<Figure> => {
  const runs = { kiln: run(KILN, ["version"]), node: run(process.execPath, ["-e", "0"]) };
  await alternate(2, runs);
  const { kiln = NONE, node = NONE } = await alternate(RUNS, runs);
  const overNode = (percentile(kiln.ms, 0.5) ?? Number.NaN) - (percentile(node.ms, 0.5) ?? Number.NaN);
  return compare({
    name: "cli.start",
    ours: kiln,
    theirs: { node },
    details: { "ms over node": Math.round(overNode * 10) / 10 },
    goal: { field: "ms over node", max: GOAL_MS },
  });
};

const NONE = { ms: [], failures: 1 };
