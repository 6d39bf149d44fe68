import type { OperationView } from "@kiln/protocol";
import { operationError } from "@kiln/sdk";
import { examples, type CommandSpec } from "../command-spec.ts";
import { ProgressBlock, progressOf, renderProgress } from "../render/progress.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<id>", "an operation")
      .addHelpText("after", examples("kiln op watch op_0123456789abcdef", "kiln op watch --json op_0123456789abcdef")),
  run: async (context, command) => {
    const [id = ""] = command.args;
    const kiln = await context.connect();
    await using progress = new ProgressBlock(context.host, { json: context.json });
    let last: OperationView | null = null;
    let phase: string | null = null;
    for await (const operation of kiln.operations.watch(id, { signal: context.signal })) {
      last = operation;
      if (context.json) await context.printJson(operation);
      else if (context.host.stderr.isTTY) progress.show(id, progressOf(operation));
      else if (operation.phase !== phase) await context.print(`${renderProgress(progressOf(operation))}\n`);
      phase = operation.phase;
    }
    await progress.clear();
    if (last === null || last.state === "succeeded") {
      if (!context.json) await context.print(`${last?.state ?? "unknown"}\n`);
      return;
    }
    throw operationError(last);
  },
};
export default spec;
