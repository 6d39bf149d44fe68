import { readFile } from "node:fs/promises";
import { KilnError } from "@kiln/protocol/errors";
import type { CreateVmRequest, NetworkMode, StartMode } from "@kiln/protocol";
import { Option, type Command } from "commander";
import { parseDisk, parseMemory } from "../arguments/bytes.ts";
import { parseEnvironment, parseEnvironmentFile, parseLabels } from "../arguments/environment.ts";
import { guestCommand } from "../arguments/guest-command.ts";
import { parseCpus } from "../arguments/numbers.ts";
import { parsePlatform } from "../arguments/platform.ts";
import { parsePublish } from "../arguments/ports.ts";
import { collect } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { hasErrno } from "../errno.ts";
import { IMAGE_HELP, PLAIN_HTTP_HELP, PLATFORM_HELP } from "../images/transport.ts";
import { terminalSize } from "./relay.ts";

/** The options that `create` and `run` share, as commander gives them. */
export interface CreateOptions {
  readonly name?: string;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly entrypoint?: string;
  readonly hostname?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly disk?: number;
  readonly label?: readonly string[];
  readonly pull?: "missing" | "always" | "never";
  readonly platform?: string;
  readonly plainHttp?: boolean;
  readonly idle?: boolean;
  readonly network?: NetworkMode;
  readonly start?: StartMode;
  readonly publish?: readonly string[];
  readonly rm?: boolean;
  readonly interactive?: boolean;
  readonly tty?: boolean;
}

const START_HELP = "auto: the fastest that is there; cold: boot the kernel; preboot: from a snapshot of its shape, built first if need be";
const NETWORK_HELP = "user: out into the world, nothing of the host; none; user-open: all that the host reaches, itself included";

export const declareCreateOptions = (command: Command): Command =>
  command
    .argument("<image>", IMAGE_HELP)
    .argument("[command...]", "what runs in the VM, and its arguments (default: the image's)")
    .passThroughOptions()
    .option("--name <name>", "name of the VM (default: one is made up)")
    .option("-i, --interactive", "give it this command's stdin")
    .option("-t, --tty", "give it a terminal")
    .option("--rm", "remove the VM when it ends")
    .option("-e, --env <pair>", "set NAME=VALUE, or NAME to the caller's value; may be repeated", collect)
    .option("--env-file <file>", "read such lines from a file; may be repeated", collect)
    .option("-w, --workdir <dir>", "working directory in the VM")
    .option("-u, --user <user>", "USER[:GROUP], names or numbers")
    .option("--entrypoint <program>", "replace the image's entrypoint")
    .option("--hostname <name>", "hostname in the VM (default: its name)")
    .option("--cpus <number>", "CPUs (default: 1)", parseCpus)
    .option("-m, --memory <size>", "memory, in steps of 64m (default: 512m)", parseMemory)
    .option("--disk <size>", "size of the writable disk, sparse (default: 8g)", parseDisk)
    .option("-p, --publish <port>", "[IP:]HOST:GUEST[/udp]; without HOST a free port, without IP 127.0.0.1; may be repeated", collect)
    .option("-l, --label <pair>", "set a label KEY=VALUE; may be repeated", collect)
    .addOption(new Option("--pull <when>", "when to fetch the image").choices(["missing", "always", "never"]).default("missing"))
    .option("--platform <platform>", PLATFORM_HELP, parsePlatform)
    .option("--plain-http", PLAIN_HTTP_HELP)
    .option("--idle", "run no command: the VM waits for exec until it is stopped")
    .addOption(new Option("--network <mode>", NETWORK_HELP).choices(["user", "none", "user-open"]).default("user"))
    .addOption(new Option("--start <way>", START_HELP).choices(["auto", "cold", "preboot"]).default("auto"));

const readEnvironmentFiles = async (context: CommandContext, files: readonly string[]): Promise<string[]> => {
  const entries: string[] = [];
  for (const file of files) {
    try {
      entries.push(...parseEnvironmentFile(await readFile(file, "utf8"), context.host.env));
    } catch (cause) {
      if (cause instanceof KilnError) throw cause;
      if (hasErrno(cause, "ENOENT", "ENOTDIR", "EISDIR", "EACCES"))
        throw new KilnError("USAGE", `--env-file ${file}: it cannot be read`, { cause, hint: "check the path" });
      throw cause;
    }
  }
  return entries;
};

/** What is to be created, from the words of a command line. Throws USAGE. */
export const createRequest = async (
  context: CommandContext,
  words: readonly string[],
  given: { readonly options: CreateOptions; readonly detach: boolean },
): Promise<CreateVmRequest> => {
  const { options, detach } = given;
  const [image = "", ...rest] = words;
  const command = guestCommand(rest);
  if (options.idle === true && command.length > 0)
    throw new KilnError("USAGE", "--idle runs no command, but one was given", { hint: "leave out one of the two" });
  if (options.tty === true && options.interactive === true && !detach && !context.host.stdin.isTTY) {
    throw new KilnError("USAGE", "-t with -i needs a terminal, but stdin is none", { hint: "leave out -t" });
  }
  const env = [...(await readEnvironmentFiles(context, options.envFile ?? [])), ...parseEnvironment(options.env ?? [], context.host.env)];
  return {
    image,
    pull: options.pull ?? "missing",
    platform: options.platform ?? null,
    plainHttp: options.plainHttp ?? false,
    command: command.length > 0 ? command : null,
    entrypoint: options.entrypoint === undefined ? null : options.entrypoint === "" ? [] : [options.entrypoint],
    env,
    workingDir: options.workdir ?? null,
    user: options.user ?? null,
    hostname: options.hostname ?? null,
    idle: options.idle ?? false,
    tty: options.tty === true ? terminalSize(context) : null,
    stdin: options.interactive ?? false,
    network: options.network ?? "user",
    startMode: options.start ?? "auto",
    ports: (options.publish ?? []).map(parsePublish),
    labels: parseLabels(options.label ?? []),
    autoRemove: options.rm ?? false,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
    ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
    ...(options.disk === undefined ? {} : { diskBytes: options.disk }),
  };
};
