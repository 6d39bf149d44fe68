import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable, ellipsis } from "../render/table.ts";
import { formatBytes } from "../render/units.ts";

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln df", "kiln df --json")),
  run: async (context) => {
    const kiln = await context.connect();
    const report = await kiln.df({ signal: context.signal });
    if (context.json) return context.printJson(report);
    const rows = report.items.map((item) => [
      item.kind,
      ellipsis(item.id, 24),
      formatBytes(item.bytes),
      formatBytes(item.diskBytes),
      formatBytes(item.uniqueBytes),
      item.inUse ? "yes" : "no",
    ]);
    const total = ["total", "", formatBytes(report.total.bytes), formatBytes(report.total.diskBytes), "", ""];
    await context.print(renderTable(["KIND", "ID", "SIZE", "ON DISK", "UNIQUE", "IN USE"], [...rows, total]));
    if (report.orphans.length > 0)
      await context.print(
        `\n${renderTable(
          ["NOBODY OWNS"],
          report.orphans.map((path) => [path]),
        )}`,
      );
  },
};
export default spec;
