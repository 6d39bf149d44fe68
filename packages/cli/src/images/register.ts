import { familiarName } from "@kiln/formats/oci/reference";
import type { OperationView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln, SentFile } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import { followOperation, printBegun } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";
import { openSentFile } from "./sent-file.ts";

export interface RegisterOptions {
  readonly name?: string;
  readonly replace?: boolean;
  readonly quiet?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

/** Sends the file that a command names, and prints the image that it has become. */
export const sendAndFollow = async (
  context: CommandContext,
  { args, options }: { readonly args: readonly string[]; readonly options: RegisterOptions },
  begin: (kiln: Kiln, file: SentFile) => Promise<OperationView>,
): Promise<void> => {
  const [name, ...more] = args;
  if (name === undefined || more.length > 0) throw new KilnError("USAGE", "one file becomes an image");
  const { quiet = false } = options;
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet });
  const operation = await (async () => {
    await using stack = new AsyncDisposableStack();
    // before a daemon is started for it
    const file = await openSentFile(context, name, { progress, stack });
    return await begin(await context.connect(), file);
  })();
  if (options.wait === false) return await printBegun(context, operation);
  const kiln = await context.connect();
  const { result } = await followOperation(context, operation, { kiln, progress, cancel: true });
  const reference = operation.subject;
  if (context.json) return await context.printJson(await kiln.images.inspect(reference, { signal: context.signal }));
  return await context.print(quiet ? `${result}\n` : `${escapeControl(familiarName(reference))}\n  ${result}\n`);
};
