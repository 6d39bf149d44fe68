import { KilnError } from "@kiln/protocol/errors";
import { parseEnvironment, parseEnvironmentFile } from "../arguments/environment.ts";
import { guestCommand } from "../arguments/guest-command.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { beforeCommand } from "../failure.ts";
import { relayToEnd } from "../guest/foreground.ts";
import { terminalSize } from "../guest/relay.ts";

interface ExecOptions {
  readonly detach?: boolean;
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
}

const environmentOf = async (context: CommandContext, options: ExecOptions): Promise<string[]> => {
  const { readFile } = await import("node:fs/promises");
  const entries: string[] = [];
  for (const file of options.envFile ?? []) entries.push(...parseEnvironmentFile(await readFile(file, "utf8"), context.host.env));
  return [...entries, ...parseEnvironment(options.env ?? [], context.host.env)];
};

const execIn = async (context: CommandContext, words: readonly string[], options: ExecOptions): Promise<number> => {
  const [name = "", ...rest] = words;
  const argv = guestCommand(rest);
  if (argv.length === 0) throw new KilnError("USAGE", "the command to run is missing");
  const detach = options.detach ?? false;
  const tty = options.tty ?? false;
  const stdin = (options.interactive ?? false) && !detach;
  if (tty && stdin && !context.host.stdin.isTTY)
    throw new KilnError("USAGE", "-t with -i needs a terminal, but stdin is none", { hint: "leave out -t" });
  const env = await environmentOf(context, options);
  const kiln = await context.connect();
  const request = {
    command: argv,
    env,
    workingDir: options.workdir ?? null,
    user: options.user ?? null,
    tty: tty ? terminalSize(context) : null,
    stdin,
    // Nobody reads what a detached command writes, and it must not wait for that.
    overflow: detach ? ("drop" as const) : ("block" as const),
  };
  await using session = kiln.vms.exec(name, request, { signal: context.signal });
  await session.started;
  return detach ? 0 : await relayToEnd(context, session, { tty, stdin, proxySignals: true });
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a running VM")
      .argument("<command...>", "what to run, and its arguments")
      .passThroughOptions()
      .option("-d, --detach", "leave it running")
      .option("-i, --interactive", "give it this command's stdin")
      .option("-t, --tty", "give it a terminal")
      .option("-e, --env <pair>", "set NAME=VALUE, or NAME to the caller's value; may be repeated", collect)
      .option("--env-file <file>", "read such lines from a file; may be repeated", collect)
      .option("-w, --workdir <dir>", "working directory in the VM")
      .option("-u, --user <user>", "USER[:GROUP], names or numbers")
      .addHelpText("after", examples("kiln exec web ps aux", "kiln exec -it web sh", "echo hello | kiln exec -i web tee /tmp/greeting")),
  run: async (context, command) => {
    try {
      return await execIn(context, command.args, command.opts<ExecOptions>());
    } catch (thrown) {
      throw beforeCommand(thrown);
    }
  },
};
export default spec;
