import { KilnError } from "@kiln/protocol/errors";
import type { Kiln, OutputChunk } from "@kiln/sdk";
import { parseInteger } from "../arguments/numbers.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { writeTo } from "../streams.ts";

interface LogOptions {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly console?: boolean;
}

const parseTail = (text: string): number | undefined =>
  text === "all" ? undefined : parseInteger(text, "--tail", { min: 0, max: Number.MAX_SAFE_INTEGER });

/** Chunks as JSON, their text whole characters: one that is cut goes on in the next chunk. */
const jsonLines = (): ((chunk: OutputChunk) => string) => {
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  return ({ stream, offset, droppedBytes, bytes }) =>
    `${JSON.stringify({ stream, offset, droppedBytes, text: decoders[stream].decode(bytes, { stream: true }) })}\n`;
};

const printLog = async (context: CommandContext, chunks: AsyncIterable<OutputChunk>): Promise<void> => {
  const { stdout, stderr } = context.host;
  const toJson = jsonLines();
  for await (const chunk of chunks) {
    if (context.json) await context.print(toJson(chunk));
    else await writeTo(chunk.stream === "stdout" ? stdout : stderr, chunk.bytes);
  }
};

const printConsole = async (context: CommandContext, kiln: Kiln, name: string): Promise<void> => {
  const decoder = new TextDecoder();
  for await (const bytes of await kiln.vms.console(name, { signal: context.signal })) {
    if (context.json) await context.printJson({ stream: "console", text: decoder.decode(bytes, { stream: true }) });
    else await writeTo(context.host.stdout, bytes);
  }
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a VM")
      .option("-f, --follow", "go on until it ends")
      .option("-n, --tail <lines>", "only the last lines, or all", parseTail)
      .option("--console", "what the guest's kernel wrote to its console")
      .addHelpText("after", examples("kiln logs web", "kiln logs -f --tail 20 web", "kiln logs --console web")),
  run: async (context, command) => {
    const [name = ""] = command.args;
    const options = command.opts<LogOptions>();
    if (options.console === true && options.follow === true) throw new KilnError("USAGE", "--console cannot be followed");
    const kiln = await context.connect();
    if (options.console === true) return printConsole(context, kiln, name);
    return printLog(context, kiln.vms.logs(name, { follow: options.follow ?? false, tailLines: options.tail, signal: context.signal }));
  },
};
export default spec;
