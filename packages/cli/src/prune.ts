import { familiarName } from "@kiln/formats/oci/reference";
import type { PruneReport, PruneRequest } from "@kiln/protocol";
import type { Command } from "commander";
import { confirm, requireSomebody } from "./confirm.ts";
import type { CommandContext } from "./context.ts";
import { escapeControl } from "./render/escape.ts";
import { formatBytes, shortDigest } from "./render/units.ts";
import { writeTo } from "./streams.ts";

export interface PruneOptions {
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export const declarePruneOptions = (command: Command): Command =>
  command.option("-f, --force", "do not ask (needed without a terminal)").option("--dry-run", "show what would go, and remove nothing");

export interface Pruning {
  readonly request: PruneRequest;
  /** What goes, in words. */
  readonly what: readonly string[];
  readonly options: PruneOptions;
}

type Removed = PruneReport["removed"][number];

/** By name; the rest is counted. */
const LISTED: Readonly<Record<string, string>> = { vm: "VMs", image: "Images", kernel: "Kernels" };
const COUNTED: Readonly<Record<string, readonly [string, string]>> = { rootfs: ["rootfs", "rootfs"], blob: ["blob", "blobs"] };

const nameOf = ({ kind, id }: Removed): string => (kind === "image" ? familiarName(id) : kind === "kernel" ? shortDigest(id) : id);

/** What went or would go: VMs, images and kernels by name, what only they needed by count. */
export const renderRemoved = (removed: readonly Removed[]): string => {
  const byKind = Map.groupBy(removed, ({ kind }) => kind);
  const lines: string[] = [];
  for (const [kind, title] of Object.entries(LISTED)) {
    const all = byKind.get(kind) ?? [];
    if (all.length > 0) lines.push(`${title}:`, ...all.map((one) => `  ${escapeControl(nameOf(one))}`));
  }
  for (const [kind, [one, several]] of Object.entries(COUNTED)) {
    const all = byKind.get(kind) ?? [];
    const bytes = all.reduce((sum, { diskBytes }) => sum + diskBytes, 0);
    if (all.length > 0) lines.push(`${all.length} ${all.length === 1 ? one : several} (${formatBytes(bytes)})`);
  }
  return lines.map((line) => `${line}\n`).join("");
};

/** docker's prune: says what goes, asks, does it, and says what went. 1 if something could not be removed. */
export const runPrune = async (context: CommandContext, { request, what, options }: Pruning): Promise<number> => {
  const isDry = options.dryRun ?? false;
  const isAsked = !isDry && options.force !== true;
  if (isAsked) requireSomebody(context);
  const kiln = await context.connect();
  const { signal } = context;
  if (isAsked) {
    const plan = await kiln.prune({ ...request, dryRun: true }, { signal });
    if (plan.removed.length === 0) return printReport(context, plan);
    const words = what.map((one) => `  - ${one}\n`).join("");
    await writeTo(context.host.stderr, `This removes:\n${words}\n${renderRemoved(plan.removed)}\n`);
    if (!(await confirm(context, `Remove ${formatBytes(plan.diskBytes)}?`))) {
      await context.note("Nothing was removed.\n");
      return 1;
    }
  }
  return printReport(context, await kiln.prune({ ...request, dryRun: isDry }, { signal }));
};

const printReport = async (context: CommandContext, report: PruneReport): Promise<number> => {
  if (context.json) {
    await context.printJson(report);
  } else {
    await context.print(renderRemoved(report.removed));
    await context.print(`Total ${report.dryRun ? "reclaimable" : "reclaimed"} space: ${formatBytes(report.diskBytes)}\n`);
    for (const { kind, id, error } of report.failures)
      await writeTo(context.host.stderr, `kiln: ${kind} ${escapeControl(id)} stays: ${escapeControl(error.detail)}\n`);
  }
  return report.failures.length > 0 ? 1 : 0;
};
