import type { OperationView } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable, ellipsis } from "../render/table.ts";
import { formatAge } from "../render/units.ts";

const describe = (operation: OperationView): string => {
  if (operation.joined !== null) return `joined ${operation.joined}`;
  if (operation.state === "queued" && operation.position !== null) return `position ${operation.position}`;
  return operation.error?.code ?? operation.phase ?? "-";
};

const spec: CommandSpec = {
  configure: (command) =>
    command.option("-a, --all", "show those that have ended as well").addHelpText("after", examples("kiln op ls", "kiln op ls -a --json")),
  run: async (context, command) => {
    const { all = false } = command.opts<{ readonly all?: boolean }>();
    const kiln = await context.connect();
    const operations = await kiln.operations.list({ all, signal: context.signal });
    if (context.json) return context.printJson(operations);
    const rows = operations.map((one) => [
      one.id,
      one.kind,
      ellipsis(one.subject, 40),
      one.state,
      describe(one),
      formatAge(one.startedAt, Date.now()),
    ]);
    return context.print(renderTable(["ID", "KIND", "SUBJECT", "STATE", "DETAIL", "STARTED"], rows));
  },
};
export default spec;
