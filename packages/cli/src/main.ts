import { asKilnError, errnoOf, KilnError } from "@kiln/protocol/errors";
import { CommanderError, type Command } from "commander";
import type { CommandSpec } from "./command-spec.ts";
import { CommandContext } from "./context.ts";
import { Failure } from "./failure.ts";
import { processHost, type Host } from "./host.ts";
import { Interrupts } from "./interrupts.ts";
import { createProgram } from "./program.ts";
import { renderError } from "./render/error.ts";
import { failureOf as streamFailureOf, flushed, writeTo } from "./streams.ts";

/** What a shell reports of a program whose reader has gone: 128 + SIGPIPE. */
const BROKEN_PIPE_EXIT = 141;

interface CommonOptions {
  readonly home?: string;
  readonly json?: boolean;
}

/** Options may stand before the command and after it; the nearer one counts. */
const commonOptions = (command: Command): CommonOptions => {
  const own = command.opts<CommonOptions>();
  return command.parent === null ? own : { ...commonOptions(command.parent), ...own };
};

/** Runs one command line to its end and resolves with the exit code; its errors are on stderr by then. */
export const runCommandLine = async (host: Host, exit: (code: number) => void): Promise<number> => {
  using interrupts = new Interrupts(host, exit);
  let exitCode = 0;
  let json = host.argv.includes("--json");
  const run = async (spec: CommandSpec, command: Command): Promise<void> => {
    const options = commonOptions(command);
    json = options.json ?? false;
    const context = new CommandContext({ host, json, home: options.home, interrupts });
    exitCode = (await spec.run(context, command)) ?? 0;
  };
  try {
    await parse(host, run);
    return exitCode;
  } catch (thrown) {
    return await reportError(thrown, { host, json, interrupts });
  }
};

const parse = async (host: Host, run: (spec: CommandSpec, command: Command) => Promise<void>): Promise<void> => {
  let help = "";
  const program = createProgram(run, (text) => void (help += text));
  const argv = host.argv.length === 0 ? ["help"] : isVersionFlag(host.argv) ? ["version"] : [...host.argv];
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    if (thrown.exitCode !== 0) throw usageError(thrown, deepestCommand(program, argv));
    await writeTo(host.stdout, help);
  }
};

/** The command that the words before the first flag name, as far as they do. */
const deepestCommand = (program: Command, argv: readonly string[]): Command => {
  let command = program;
  for (const word of argv) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (next === undefined) return command;
    command = next;
  }
  return command;
};

const pathOf = (command: Command): string => (command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`);

const isVersionFlag = (argv: readonly string[]): boolean => argv.length === 1 && (argv[0] === "--version" || argv[0] === "-v");

interface ErrorSurroundings {
  readonly host: Host;
  readonly json: boolean;
  readonly interrupts: Interrupts;
}

const reportError = async (thrown: unknown, { host, json, interrupts }: ErrorSurroundings): Promise<number> => {
  if (errnoOf(thrown) === "EPIPE") return BROKEN_PIPE_EXIT;
  const { error, exitCode } = failureOf(thrown);
  const code = error.code === "CANCELLED" && interrupts.signal.aborted ? interrupts.exitCode : exitCode;
  await writeTo(host.stderr, renderError(error, { json, exitCode: code }));
  return code;
};

const failureOf = (thrown: unknown): { readonly error: KilnError; readonly exitCode: number } => {
  if (thrown instanceof Failure) return thrown;
  const error = asKilnError(thrown);
  return { error, exitCode: error.exitCode };
};

/** commander's words without its prefix; its suggestion of a near name is part of them. */
const usageError = (thrown: CommanderError, command: Command): KilnError => {
  const missing = thrown.code === "commander.help";
  const words = missing
    ? `a command is missing: ${pathOf(command)} ${command.commands.map((one) => one.name()).join("|")}`
    : thrown.message
        .replace(/^error: /, "")
        .replace(/\n\(?Did you mean /, "; did you mean ")
        .replace(/\?\)$/, "?");
  return new KilnError("USAGE", words, { hint: `see \`${pathOf(command)} --help\`` });
};

/** Runs the command line of this process and ends it. */
export const runProcess = async (): Promise<void> => {
  const host = processHost();
  for (const stream of [host.stdout, host.stderr]) {
    stream.on("error", () => undefined); // a write that waits has it, and what none waited for is told at the end
  }
  const exitCode = await runCommandLine(host, (code) => process.exit(code));
  await Promise.all([flushed(host.stdout), flushed(host.stderr)]);
  process.exit(exitCode === 0 ? reportLost(host) : exitCode);
};

/** The exit code of a command that succeeded, but for its last output. A reader that has gone wanted no more. */
const reportLost = ({ stdout, stderr }: Host): number => {
  const lost = streamFailureOf(stdout);
  if (lost === null || errnoOf(lost) === "EPIPE") return 0;
  const error = asKilnError(lost);
  stderr.write(renderError(error, { json: false, exitCode: error.exitCode }));
  return error.exitCode;
};
