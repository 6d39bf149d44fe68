import { examples, type CommandSpec } from "../command-spec.ts";
import { renderTable } from "../render/table.ts";
import { formatAge, formatBytes, formatShape } from "../render/units.ts";

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln kernel ls")),
  run: async (context) => {
    const kiln = await context.connect();
    const kernels = await kiln.kernels.list({ signal: context.signal });
    if (context.json) return context.printJson(kernels);
    const rows = kernels.map((kernel) => [
      kernel.name,
      kernel.version,
      kernel.source,
      formatBytes(kernel.sizeBytes),
      formatAge(kernel.createdAt, Date.now()),
      kernel.inUse ? "yes" : "no",
      [...new Set(kernel.shapes.map(formatShape))].join(", ") || "-",
    ]);
    return context.print(renderTable(["NAME", "VERSION", "SOURCE", "SIZE", "CREATED", "IN USE", "SNAPSHOTS OF"], rows));
  },
};
export default spec;
