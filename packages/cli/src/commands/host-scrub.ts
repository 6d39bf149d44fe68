import type { ScrubReport } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { followOperation, printBegun } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";
import { renderTable } from "../render/table.ts";
import { formatBytes } from "../render/units.ts";

const render = (report: ScrubReport): string => {
  const bad = report.artifacts.filter(({ state }) => state !== "whole");
  const rows = bad.map(({ kind, id, state, repair }) => [kind, id, state, repair ?? "-"]);
  const table = rows.length === 0 ? "" : renderTable(["KIND", "ID", "STATE", "WHAT WAS DONE"], rows);
  const left = report.unrepaired === 0 ? "" : `, ${report.unrepaired} of them not put right`;
  const found = report.damaged === 0 ? "all are whole" : `${report.damaged} ${report.damaged === 1 ? "was" : "were"} not whole${left}`;
  return `${table}${report.checked} artifacts, ${formatBytes(report.bytes)}: ${found}\n`;
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln scrub", "kiln scrub --json | jq '.artifacts[] | select(.state != \"whole\")'")),
  run: async (context, command) => {
    const kiln = await context.connect();
    const operation = await kiln.scrub({ signal: context.signal });
    if (command.opts<{ readonly wait?: boolean }>().wait === false) return await printBegun(context, operation);
    await using progress = new ProgressBlock(context.host, { json: context.json });
    const { report } = await followOperation(context, operation, { kiln, progress, cancel: true });
    if (report?.kind !== "scrub") return 1;
    await (context.json ? context.printJson(report) : context.print(render(report)));
    return report.unrepaired === 0 ? 0 : 1;
  },
};
export default spec;
