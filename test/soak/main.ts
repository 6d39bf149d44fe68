import { soakDirectory } from "./directory.ts";
import { soakChaos } from "./chaos.ts";
import { soakEntries } from "./entries.ts";
import { soakAgent } from "./fuzzed-agent.ts";
import { soakSimulation } from "./simulation.ts";
import { soakStarts } from "./starts.ts";

/** `npm run -s soak [-- NAME[=COUNT]…]`: proofs that take minutes or more. Each prints one JSON object; the exit code is 1 if one found anything. */
export interface Soak {
  /** How often it does its work unless told. */
  readonly count: number;
  /** What it found, with words for all that is wrong: none where all is well. */
  readonly run: (count: number, say: (text: string) => void) => Promise<SoakResult>;
}

export interface SoakResult {
  readonly complaints: readonly string[];
  readonly figures: Readonly<Record<string, number>>;
}

const SOAKS: Readonly<Record<string, Soak>> = {
  starts: soakStarts,
  entries: soakEntries,
  chaos: soakChaos,
  directory: soakDirectory,
  agent: soakAgent,
  simulation: soakSimulation,
};

const asked = process.argv.slice(2);
const wanted = new Map(asked.map((word) => [word.split("=")[0] ?? "", /=(.*)$/.exec(word)?.[1] ?? null]));
const unknown = [...wanted].find(([name, count]) => !Object.hasOwn(SOAKS, name) || (count !== null && !/^[1-9]\d*$/.test(count)));
if (unknown !== undefined) {
  process.stderr.write(`soak: ${asked.join(" ")} is no soak; there are ${Object.keys(SOAKS).join(", ")}, each with =COUNT\n`);
  process.exit(2);
}
for (const [name, soak] of Object.entries(SOAKS)) {
  if (wanted.size > 0 && !wanted.has(name)) continue;
  const count = Number(wanted.get(name) ?? soak.count);
  const began = performance.now();
  const { complaints, figures } = await soak.run(count, (text) => void process.stderr.write(`soak: ${name}: ${text}\n`));
  const seconds = Math.round((performance.now() - began) / 1000);
  process.stdout.write(`${JSON.stringify({ name, count, seconds, ...figures, complaints })}\n`);
  if (complaints.length > 0) process.exitCode = 1;
}
