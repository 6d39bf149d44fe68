import { examples, type CommandSpec } from "../command-spec.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { followOperation, printBegun } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";
import { renderTable } from "../render/table.ts";
import { formatBytes } from "../render/units.ts";

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
    if (report?.kind !== "scrub") return;
    if (context.json) return await context.printJson(report);
    const bad = report.artifacts.filter(({ state }) => state !== "whole");
    const rows = bad.map(({ kind, id, state, repair }) => [kind, id, state, repair ?? "-"]);
    if (rows.length > 0) await context.print(renderTable(["KIND", "ID", "STATE", "WHAT WAS DONE"], rows));
    const found = bad.length === 0 ? "all are whole" : `${bad.length} ${bad.length === 1 ? "was" : "were"} not whole`;
    return await context.print(`${report.checked} artifacts, ${formatBytes(report.bytes)}: ${found}\n`);
  },
};
export default spec;
