import type { DoctorReport } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable } from "../render/table.ts";
import { escapeControl } from "../render/escape.ts";

const render = (report: DoctorReport): string => {
  const table = renderTable(
    ["CHECK", "STATUS", "FOUND", "NEEDED"],
    report.checks.map((check) => [check.name, check.status.toUpperCase(), check.found ?? "-", check.needed ?? "-"]),
  );
  const fixes = report.checks.filter((check) => check.fix !== null).map((check) => `${check.name}: ${escapeControl(check.fix ?? "")}\n`);
  return fixes.length === 0 ? table : `${table}\n${fixes.join("")}`;
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--failpoints", "list the points at which a test can make the daemon fail")
      .addHelpText("after", examples("kiln doctor", "kiln doctor --json")),
  run: async (context, command) => {
    const kiln = await context.connect();
    if (command.opts<{ readonly failpoints?: boolean }>().failpoints === true) {
      const names = await kiln.failpoints({ signal: context.signal });
      await (context.json ? context.printJson(names) : context.print(names.map((name) => `${name}\n`).join("")));
      return 0;
    }
    const report = await kiln.doctor({ signal: context.signal });
    if (context.json) await context.printJson(report);
    else await context.print(render(report));
    return report.ok ? 0 : 1;
  },
};
export default spec;
