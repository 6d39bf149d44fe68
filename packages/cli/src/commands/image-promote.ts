import type { Command } from "commander";
import { familiarName } from "@kiln/formats/oci/reference";
import { KilnError } from "@kiln/protocol/errors";
import type { PromoteImageRequest } from "@kiln/protocol";
import { type ConfigOptions, configChanges, declareConfigOptions } from "../arguments/config-changes.ts";
import { parseEnvironment } from "../arguments/environment.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { parseNewName } from "../images/registry.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { followOperation, printBegun } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";

export interface PromoteOptions extends ConfigOptions {
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly message?: string;
  readonly replace?: boolean;
  readonly quiet?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

export const declarePromoteOptions = (command: Command): Command =>
  declareConfigOptions(command)
    .option("-e, --env <pair>", "set NAME=VALUE in the image, or NAME to the caller's value; may be repeated", collect)
    .option("-w, --workdir <dir>", "the image's working directory")
    .option("-u, --user <user>", "the image's user")
    .option("-m, --message <text>", "a word for the image's history")
    .option("--replace", "the name may be that of another image, which loses it")
    .option("-q, --quiet", "show no progress, and print the digest only")
    .option("--no-wait", NO_WAIT_HELP);

/** Makes an image of a VM that does not run, and prints it. */
export const promote = async (context: CommandContext, from: { vm: string; name: string; options: PromoteOptions }): Promise<void> => {
  const { vm, name, options } = from;
  const reference = parseNewName(name);
  const request: Omit<PromoteImageRequest, "vm"> = {
    ...{ name, replace: options.replace ?? false, message: options.message ?? "", ...configChanges(options) },
    env: parseEnvironment(options.env ?? [], context.host.env),
    ...{ workingDir: options.workdir ?? null, user: options.user ?? null },
  };
  const kiln = await context.connect();
  const operation = await kiln.images.promote(vm, request, { signal: context.signal });
  if (options.wait === false) return printBegun(context, operation);
  const { quiet = false } = options;
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet });
  const { result } = await followOperation(context, operation, { kiln, progress, cancel: true });
  if (context.json) return await context.printJson(await kiln.images.inspect(reference, { signal: context.signal }));
  return await context.print(quiet ? `${result}\n` : `${escapeControl(familiarName(reference))}\n  ${result}\n`);
};

const spec: CommandSpec = {
  configure: (command) =>
    declarePromoteOptions(
      command.argument("<vm>", "a VM that does not run").requiredOption("-n, --name <name>", "the new image's NAME[:TAG]"),
    ).addHelpText(
      "after",
      examples(
        "kiln image promote web --name web:2",
        `kiln image promote box --name tool:1 --cmd '["tool", "--serve"]' --label version=1`,
        'kiln image promote web --name web:2 --replace --message "with its data"',
      ),
    ),
  run: async (context, command) => {
    const { name, ...options } = command.opts<PromoteOptions & { readonly name: string }>();
    const [vm, ...more] = command.args;
    if (vm === undefined || more.length > 0) throw new KilnError("USAGE", "one VM becomes an image");
    await promote(context, { vm, name, options });
  },
};
export default spec;
