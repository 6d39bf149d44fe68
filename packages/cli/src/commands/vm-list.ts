import { familiarName } from "@kiln/formats/oci/reference";
import type { VmView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import { describePort } from "../arguments/ports.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import { ellipsis, renderTable } from "../render/table.ts";
import { formatAge, formatDuration } from "../render/units.ts";

interface ListOptions {
  readonly all?: boolean;
  readonly quiet?: boolean;
  /** false with --no-trunc; commander sets no default for options that are declared late. */
  readonly trunc?: boolean;
  readonly filter?: readonly string[];
}

/** States that `ps` shows without -a: those of a VM that lives or is about to. */
const ALIVE: ReadonlySet<VmView["state"]> = new Set(["starting", "running", "paused", "stopping"]);

const FILTERS: Readonly<Record<string, (vm: VmView, value: string) => boolean>> = {
  id: (vm, value) => vm.id.startsWith(value),
  name: (vm, value) => vm.name.includes(value),
  status: (vm, value) => vm.state === value,
  state: (vm, value) => vm.state === value,
  label: (vm, value) => {
    const [key = "", ...rest] = value.split("=");
    return Object.hasOwn(vm.labels, key) && (rest.length === 0 || vm.labels[key] === rest.join("="));
  },
};

/** docker's filters: values of one key are alternatives, keys narrow each other. Throws USAGE. */
export const parseFilters = (filters: readonly string[]): ((vm: VmView) => boolean) => {
  const byKey = Map.groupBy(filters, (filter) => filter.split("=", 1)[0] ?? "");
  for (const key of byKey.keys()) {
    if (!Object.hasOwn(FILTERS, key)) throw new KilnError("USAGE", `--filter ${key}: there are ${Object.keys(FILTERS).join(", ")}`);
  }
  return (vm) => [...byKey].every(([key, all]) => all.some((filter) => FILTERS[key]?.(vm, filter.slice(key.length + 1)) ?? false));
};

/** docker's STATUS column. */
export const describeState = (vm: VmView, nowMs: number): string => {
  if (vm.state === "running") return vm.startedAt === null ? "Up" : `Up ${formatDuration(nowMs - Date.parse(vm.startedAt))}`;
  if (vm.state === "exited") return `Exited (${vm.signal ?? vm.exitCode ?? "?"}) ${formatAge(vm.finishedAt, nowMs)}`;
  if (vm.state === "failed") return `Failed (${vm.error?.code ?? "?"}) ${formatAge(vm.finishedAt, nowMs)}`;
  return `${vm.state.slice(0, 1).toUpperCase()}${vm.state.slice(1)}`;
};

export const renderVms = (vms: readonly VmView[], options: { readonly nowMs: number; readonly truncate: boolean }): string => {
  const cut = (text: string, length: number) => (options.truncate ? ellipsis(text, length) : text);
  const rows = vms.map((vm) => [
    vm.id,
    cut(familiarName(vm.image), 40),
    vm.command.length === 0 ? "-" : cut(JSON.stringify(vm.command.join(" ")), 24),
    formatAge(vm.createdAt, options.nowMs),
    describeState(vm, options.nowMs),
    ALIVE.has(vm.state) ? vm.network.ports.map(describePort).join(", ") : "",
    vm.name,
  ]);
  return renderTable(["ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAME"], rows);
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("-a, --all", "show those that do not run as well")
      .option("-q, --quiet", "print ids only")
      .option("--no-trunc", "do not shorten anything")
      .option("-f, --filter <key=value>", "only those of this id, name, status or label; may be repeated", collect)
      .addHelpText("after", examples("kiln ps", "kiln ps -a --json", "kiln ps -aq --filter status=exited")),
  run: async (context, command) => {
    const options = command.opts<ListOptions>();
    const matches = parseFilters(options.filter ?? []);
    const kiln = await context.connect();
    const asksForState = options.filter?.some((filter) => filter.startsWith("stat")) ?? false;
    const shown = (vm: VmView) => (options.all === true || asksForState || ALIVE.has(vm.state)) && matches(vm);
    const vms = (await kiln.vms.list({ signal: context.signal })).filter(shown).toSorted((a, b) => b.createdAt.localeCompare(a.createdAt));
    if (context.json) await context.printJson(vms);
    else if (options.quiet === true) await context.print(vms.map((vm) => `${vm.id}\n`).join(""));
    else await context.print(renderVms(vms, { nowMs: Date.now(), truncate: options.trunc !== false }));
  },
};
export default spec;
