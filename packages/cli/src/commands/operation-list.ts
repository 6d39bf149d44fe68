import type { OperationView } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable, ellipsis } from "../render/table.ts";
import { describePosition } from "../render/progress.ts";
import { formatAge, formatBytes } from "../render/units.ts";

/** Where it stands, how far it is, and whose work it shares. */
export const describeOperation = (operation: OperationView): string => {
  const { state, position, phase, progress, joined, error } = operation;
  const where = state === "queued" && position !== null ? describePosition(position) : (error?.code ?? phase);
  const parts = [
    where,
    where === phase && progress !== null ? describeProgress(progress) : null,
    joined === null ? null : `joined ${joined}`,
  ];
  return parts.filter((part) => part !== null).join(", ") || "-";
};

const describeProgress = ({ done, total, unit }: NonNullable<OperationView["progress"]>): string => {
  const amount = (value: number) => (unit === "bytes" ? formatBytes(value) : `${value} ${unit}`);
  return total === null || total <= 0 ? amount(done) : `${Math.floor((100 * done) / total)}% of ${amount(total)}`;
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
      describeOperation(one),
      formatAge(one.startedAt, Date.now()),
    ]);
    return context.print(renderTable(["ID", "KIND", "SUBJECT", "STATE", "DETAIL", "STARTED"], rows));
  },
};
export default spec;
