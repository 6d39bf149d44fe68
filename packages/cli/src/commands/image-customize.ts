import { Option } from "commander";
import { familiarName } from "@kiln/formats/oci/reference";
import type { CustomizeImageRequest, OperationView } from "@kiln/protocol";
import { parseMemory } from "../arguments/bytes.ts";
import { type ConfigOptions, configChanges, declareConfigOptions } from "../arguments/config-changes.ts";
import { parseEnvironment } from "../arguments/environment.ts";
import { parseCpus } from "../arguments/numbers.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { resolveImage } from "../guest/create-vm.ts";
import { parseNewName } from "../images/registry.ts";
import { IMAGE_HELP, NO_WAIT_HELP, PLAIN_HTTP_HELP } from "../images/transport.ts";
import { followOperation, printBegun } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { OutputLines } from "../render/output-lines.ts";
import { ProgressBlock } from "../render/progress.ts";

interface CustomizeOptions extends ConfigOptions {
  readonly name: string;
  readonly run: readonly string[];
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly network?: "user" | "none";
  readonly cpus?: number;
  readonly memory?: number;
  readonly pull?: "missing" | "always" | "never";
  readonly plainHttp?: boolean;
  readonly replace?: boolean;
  readonly quiet?: boolean;
  /** false with --no-cache. */
  readonly cache?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

const requestOf = (context: CommandContext, image: string, options: CustomizeOptions): CustomizeImageRequest => ({
  ...{ image, name: options.name, run: [...options.run], replace: options.replace ?? false, noCache: options.cache === false },
  ...configChanges(options),
  env: parseEnvironment(options.env ?? [], context.host.env),
  ...{ workingDir: options.workdir ?? null, user: options.user ?? null, network: options.network ?? "user" },
  ...{ pull: options.pull ?? "missing", platform: null, plainHttp: options.plainHttp ?? false },
  ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
  ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
});

/** Whether commands were run for it: else it was there. */
const hasRun = ({ phases }: OperationView): boolean => phases.some(({ name }) => name.startsWith("run "));

/** What a command that failed wrote comes before the words of its failure. */
const followToTheLastLine = async (lines: OutputLines, follow: () => Promise<OperationView>): Promise<OperationView> => {
  try {
    return await follow();
  } finally {
    await lines.written;
  }
};

const spec: CommandSpec = {
  configure: (command) =>
    declareConfigOptions(command)
      .argument("<image>", IMAGE_HELP)
      .requiredOption("--run <command>", "a line for the image's /bin/sh; may be repeated, and runs in that order", collect)
      .requiredOption("-n, --name <name>", "the new image's NAME[:TAG]")
      .option("-e, --env <pair>", "set NAME=VALUE for the commands, or NAME to the caller's value; the image does not keep it", collect)
      .option("-w, --workdir <dir>", "working directory of the commands")
      .option("-u, --user <user>", "USER[:GROUP] of the commands, names or numbers")
      .addOption(
        new Option("--network <mode>", "user: out into the world, nothing of the host; none").choices(["user", "none"]).default("user"),
      )
      .option("--cpus <number>", "CPUs while they run (default: 1)", parseCpus)
      .option("-m, --memory <size>", "memory while they run, in steps of 64m (default: 512m)", parseMemory)
      .addOption(new Option("--pull <when>", "when to fetch the image").choices(["missing", "always", "never"]).default("missing"))
      .option("--plain-http", PLAIN_HTTP_HELP)
      .option("--replace", "the name may be that of another image, which loses it")
      .option("--no-cache", "run the commands even where their result is there")
      .option("-q, --quiet", "show neither progress nor output, and print the digest only")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText(
        "after",
        examples(
          "kiln image customize deb:busybox-static --run 'echo hi > /hello' --name demo:1",
          "kiln image customize debian:12 --run 'apt-get update' --run 'apt-get install -y nginx' --name web:1 -m 1g",
          "kiln image customize oci:./base --network none --run 'make -C /src install' --cmd tool --name tool:2",
        ),
      ),
  run: async (context, command) => {
    const options = command.opts<CustomizeOptions>();
    const [image = ""] = command.args;
    const reference = parseNewName(options.name);
    const asked = requestOf(context, image, options);
    const { quiet = false } = options;
    const kiln = await context.connect();
    await using progress = new ProgressBlock(context.host, { json: context.json, quiet });
    const { request, credentials } = await resolveImage(context, kiln, { request: asked, progress });
    const operation = await kiln.images.customize(request.image, request, { signal: context.signal, credentials });
    if (options.wait === false) return await printBegun(context, operation);
    const lines = new OutputLines((text) => context.note(text), progress);
    const onChange = context.json || quiet ? undefined : (change: OperationView) => lines.show(change);
    const ended = await followToTheLastLine(lines, () => followOperation(context, operation, { kiln, progress, cancel: true, onChange }));
    if (context.json) return await context.printJson(await kiln.images.inspect(reference, { signal: context.signal }));
    if (quiet) return await context.print(`${ended.result}\n`);
    const how = hasRun(ended) ? "made" : "up to date";
    return await context.print(`${escapeControl(familiarName(reference))}\n  ${ended.result}\n  ${how}\n`);
  },
};
export default spec;
