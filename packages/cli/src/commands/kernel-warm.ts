import type { KernelView } from "@kiln/protocol";
import { DEFAULTS } from "@kiln/protocol/limits";
import { parseMemory } from "../arguments/bytes.ts";
import { parseCpus } from "../arguments/numbers.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { followOperation, printBegun } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";
import { formatShape } from "../render/units.ts";

interface WarmOptions {
  readonly cpus?: number;
  readonly memory?: number;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

/** What `--json` prints: the operation, and what it made. */
interface Warmed extends Pick<KernelView["shapes"][number], "cpus" | "memoryBytes"> {
  readonly operation: string;
  readonly snapshot: string | null;
}

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("--cpus <number>", "CPUs of the VMs to come (default: 1)", parseCpus)
      .option("-m, --memory <size>", "their memory, in steps of 64m (default: 512m)", parseMemory)
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln kernel warm", "kiln kernel warm --cpus 2 --memory 1g", "kiln kernel warm --no-wait --json")),
  run: async (context, command) => {
    const options = command.opts<WarmOptions>();
    const shape = { cpus: options.cpus ?? DEFAULTS.cpus, memoryBytes: options.memory ?? DEFAULTS.memoryBytes };
    const kiln = await context.connect();
    const operation = await kiln.kernels.warm(shape, { signal: context.signal });
    if (options.wait === false) return printBegun(context, operation);
    await using progress = new ProgressBlock(context.host, { json: context.json });
    const ended = await followOperation(context, operation, { kiln, progress, cancel: true });
    const warmed: Warmed = { operation: ended.id, ...shape, snapshot: ended.result };
    if (context.json) return await context.printJson(warmed);
    return await context.print(`VMs of ${formatShape(shape)} start from a snapshot\n`);
  },
};
export default spec;
