import { fileURLToPath } from "node:url";
import { asKilnError, causesOf, type KilnError } from "@kiln/protocol/errors";
import type { DoctorCheck, DoctorReport } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { renderTable } from "../render/table.ts";
import { escapeControl } from "../render/escape.ts";

const describeProblem = ({ name, status, needed, fix }: DoctorCheck): string => {
  const lines = [`${name}: ${status.toUpperCase()}`, ...(needed === null ? [] : [`  needed: ${needed}`]), `  fix:    ${fix ?? "-"}`];
  return lines.map((line) => `${escapeControl(line)}\n`).join("");
};

const countOf = (checks: readonly DoctorCheck[], status: DoctorCheck["status"]): number =>
  checks.filter((check) => check.status === status).length;

const summarise = (checks: readonly DoctorCheck[], isRoot: boolean): string => {
  const [failed, warned] = [countOf(checks, "fail"), countOf(checks, "warn")];
  if (failed === 0)
    return warned === 0 ? "Nothing stands in the way.\n" : `Kiln can run VMs here; what is not at its best (${warned}) is named above.\n`;
  const isInstallable = checks.some(({ status, fix }) => status === "fail" && fix?.includes("apt-get install") === true);
  const way = isRoot ? "`./kiln ps` installs all that comes by apt.\n" : "`./kiln ps` says in one line what root has to install.\n";
  return `Kiln cannot do its work here before what failed (${failed}) is mended.\n${isInstallable ? way : ""}`;
};

const render = ({ checks }: DoctorReport, isRoot: boolean): string => {
  const rows = checks.map((check) => [check.name, check.status.toUpperCase(), check.found ?? "-"]);
  const problems = checks.filter((check) => check.status !== "pass").map(describeProblem);
  return [renderTable(["CHECK", "STATUS", "FOUND"], rows), ...problems, summarise(checks, isRoot)].join("\n");
};

/** The daemon's own report; where no daemon can be had, that of the host as one would find it, with the reason on top. */
const report = async (context: CommandContext): Promise<DoctorReport> => {
  try {
    const kiln = await context.connect();
    return await kiln.doctor({ signal: context.signal });
  } catch (thrown) {
    const error = asKilnError(thrown);
    if (context.signal.aborted) throw error;
    const { checks } = await examineHost(context, error);
    return { ok: false, checks: [daemonCheck(error), ...checks] };
  }
};

const daemonCheck = (error: KilnError): DoctorCheck => ({
  name: "daemon",
  status: "fail",
  found: [error.message, ...new Set([...error.remoteCauses, ...causesOf(error)])].join(": ").replaceAll("\n", " "),
  needed: "a daemon that answers",
  fix: error.hint,
});

/** Asks the daemon's program instead of a daemon. If that fails too, why there is no daemon says more. */
const examineHost = async (context: CommandContext, reason: KilnError): Promise<DoctorReport> => {
  const [{ runTool, ToolError }, { doctorReport }] = await Promise.all([import("@kiln/std/node"), import("@kiln/protocol")]);
  const args = ["--", fileURLToPath(import.meta.resolve("@kiln/daemon")), "--examine", "--home", await context.home()];
  try {
    const { stdout } = await runTool(process.execPath, args, { signal: context.signal, cwd: "/", env: context.host.env });
    return doctorReport.parse(JSON.parse(new TextDecoder().decode(stdout)));
  } catch (error) {
    throw error instanceof ToolError ? reason : error;
  }
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--failpoints", "list the points at which a test can make the daemon fail")
      .addHelpText("after", examples("kiln doctor", "kiln doctor --json")),
  run: async (context, command) => {
    if (command.opts<{ readonly failpoints?: boolean }>().failpoints === true) {
      const kiln = await context.connect();
      const names = await kiln.failpoints({ signal: context.signal });
      await (context.json ? context.printJson(names) : context.print(names.map((name) => `${name}\n`).join("")));
      return 0;
    }
    const found = await report(context);
    if (context.json) await context.printJson(found);
    else await context.print(render(found, context.host.uid === 0));
    return found.ok ? 0 : 1;
  },
};
export default spec;
