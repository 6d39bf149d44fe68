import { execFileSync } from "node:child_process";
import { cpus, loadavg, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { benchBurst } from "./burst.ts";
import { benchCliStart } from "./cli-start.ts";
import { benchDensity } from "./density.ts";
import { benchLoadAdmission, benchLoadCold } from "./load/load.ts";
import type { Figure } from "./measure.ts";
import { benchAdopt, benchCreateReserve, benchPs } from "./operations.ts";
import { benchPoolClaim } from "./pool-claim.ts";
import { benchRootfsBuild, benchRootfsContent, benchRootfsFiles } from "./rootfs-build.ts";
import { writeRootfsPage } from "./rootfs-page.ts";
import { benchRootfsScaling } from "./rootfs-scaling.ts";
import { type KeptFigure, writeFiguresPage } from "./figures-page.ts";
import { benchExec, benchStartCold } from "./start-cold.ts";
import { benchStartPreboot } from "./start-preboot.ts";

/**
 * `npm run bench [-- NAME…] [--json] [--check] [--[no-]write]`: each figure beside what it is compared to, measured in the same run. A name stands
 * for all below it, too: "rootfs" for "rootfs.build" and the others. With --write, which is the default where no name is given, what the docs say
 * of these figures is written again, after each of them.
 */
const BENCHES: Readonly<Record<string, (options: { readonly write: boolean }) => Promise<Figure>>> = {
  "cli.start": benchCliStart,
  "rootfs.build": benchRootfsBuild,
  "rootfs.content": benchRootfsContent,
  "rootfs.files": benchRootfsFiles,
  "rootfs.scaling": benchRootfsScaling,
  "start.cold": benchStartCold,
  "start.preboot": benchStartPreboot,
  "pool.claim": benchPoolClaim,
  "burst.preboot": benchBurst,
  density: benchDensity,
  "load.cold.fake": () => benchLoadCold("fake"),
  "load.cold.qemu": () => benchLoadCold("qemu"),
  "load.admission.fake": () => benchLoadAdmission("fake"),
  "load.admission.qemu": () => benchLoadAdmission("qemu"),
  exec: benchExec,
  "create.reserve": benchCreateReserve,
  "ps.10000": benchPs,
  "restart.adopt": benchAdopt,
};

const { values, positionals } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    write: { type: "boolean" },
  },
  allowNegative: true,
  allowPositionals: true,
});
const write = values.write ?? positionals.length === 0;
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const firstLine = (command: string, args: readonly string[]): string | null => {
  try {
    return execFileSync(command, args, { encoding: "utf8", cwd: ROOT, stdio: ["ignore", "pipe", "ignore"] }).split("\n")[0] ?? null;
  } catch (error) {
    process.stderr.write(`bench: ${command}: ${error instanceof Error ? error.message : String(error)}\n`);
    return null;
  }
};

const print = (value: object, text: string): void => {
  process.stdout.write(`${values.json ? JSON.stringify(value) : text}\n`);
};

const describe = (figure: Figure): string => {
  const ratios = Object.entries(figure.ratios).map(([peer, ratio]) => `${ratio}x ${peer}`);
  const goals = figure.goals ?? (figure.goal === null ? [] : [figure.goal]);
  const wanted = goals.map(({ field, max }) => `${field} <= ${max}`).join(" and ");
  const goal = goals.length === 0 ? "no goal" : `goal ${wanted}: ${figure.met === true ? "met" : "MISSED"}`;
  const details = Object.entries(figure.details).map(([name, value]) => `${name}=${value}`);
  return [
    `${figure.name}: p50 ${figure.p50} ${figure.unit}, p95 ${figure.p95} ${figure.unit}, p99 ${figure.p99} ${figure.unit}, n ${figure.n}, failures ${figure.failures}`,
    ...ratios,
    goal,
    ...details,
    ...figure.skipped.map((peer) => `skipped: ${peer}`),
  ].join("\n    ");
};

const isMeant = (name: string, given: string): boolean => name === given || name.startsWith(`${given}.`);
const unknown = positionals.filter((given) => !Object.keys(BENCHES).some((name) => isMeant(name, given)));
if (unknown.length > 0) {
  process.stderr.write(`bench: there is no ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}\n`);
  process.exit(2);
}
const machine = {
  name: "machine",
  cpus: cpus().length,
  memoryBytes: totalmem(),
  accel: process.env["KILN_ACCEL"] ?? "auto",
  qemu: firstLine("qemu-system-x86_64", ["--version"]),
  node: process.version,
  commit: firstLine("git", ["rev-parse", "HEAD"]),
};
const machineLine = `${machine.cpus} cpus, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, ${machine.qemu}, node ${machine.node}, commit ${machine.commit}`;
print(machine, machineLine);
const measuredFigures: KeptFigure[] = [];
let missed = 0;
for (const [name, bench] of Object.entries(BENCHES)) {
  if (positionals.length > 0 && !positionals.some((given) => isMeant(name, given))) continue;
  process.stderr.write(`bench: ${name}\n`);
  const before = loadavg()[0] ?? Number.NaN;
  const measured = await bench({ write });
  const load = `${before.toFixed(1)} before, ${(loadavg()[0] ?? Number.NaN).toFixed(1)} after`;
  const figure = { ...measured, details: { ...measured.details, load } };
  if (figure.met === false || figure.failures > 0) missed += 1;
  measuredFigures.push({ figure, machine: machineLine, date: new Date().toISOString() });
  print(figure, describe(figure));
  if (write) await writeFiguresPage(measuredFigures, Object.keys(BENCHES));
}
if (write)
  await writeRootfsPage(
    measuredFigures.map(({ figure }) => figure),
    machineLine,
  );
if (values.check && missed > 0) process.exitCode = 1;
