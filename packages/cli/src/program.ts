import { Command } from "commander";
import { COMMANDS, GROUPS, type CommandEntry } from "./commands/table.ts";
import type { CommandSpec } from "./command-spec.ts";

/** Runs a command that was parsed. */
export type Runner = (spec: CommandSpec, command: Command) => Promise<void>;

const withCommonOptions = (command: Command): Command =>
  command
    .option("--home <dir>", "Kiln's home (default: $KILN_HOME, else /var/lib/kiln for root, else the XDG data directory)")
    .option("--json", "print JSON; errors are one RFC 9457 line on stderr");

/** The commands of a program whose options are not known yet: `load` completes one when it is called. */
const loaders = new WeakMap<Command, () => Promise<void>>();

/** Completes a command with its arguments, options and examples. Once or often: the second time does nothing. */
export const loadCommand = async (command: Command): Promise<void> => {
  const load = loaders.get(command);
  loaders.delete(command);
  await load?.();
};

const addEntry = (parent: Command, entry: CommandEntry, run: Runner): void => {
  const command = parent
    .command(entry.path.at(-1) ?? "", { isDefault: entry.isDefault ?? false })
    .summary(entry.summary)
    .description(entry.summary);
  command.aliases([...(entry.aliases ?? [])]);
  loaders.set(command, async () => {
    const { default: spec } = await entry.load();
    spec.configure(command);
    withCommonOptions(command).action(() => run(spec, command));
  });
};

/**
 * The whole command line as commander sees it. A command's own file is read only when the command is called, its
 * help asked for, or completions written.
 */
export const createProgram = (run: Runner, writeOut: (text: string) => void): Command => {
  const program = new Command("kiln")
    .description("Container images in, microVMs out.")
    .enablePositionalOptions()
    .exitOverride()
    .configureHelp({ subcommandTerm: (command) => command.name(), showGlobalOptions: false })
    .configureOutput({ writeOut, writeErr: () => undefined, outputError: () => undefined })
    .helpCommand(false)
    .showSuggestionAfterError(true)
    .hook("preSubcommand", (_, command) => loadCommand(command));
  withCommonOptions(program).option("-v, --version", "show the version");
  const groups = new Map<string, Command>();
  for (const entry of COMMANDS) {
    const [group] = entry.path;
    if (entry.path.length === 1) addEntry(program, entry, run);
    else addEntry(groups.get(group) ?? addGroup(program, group, groups), entry, run);
  }
  return program;
};

const addGroup = (program: Command, name: string, groups: Map<string, Command>): Command => {
  const group = program
    .command(name)
    .summary(GROUPS[name] ?? "")
    .description(GROUPS[name] ?? "")
    .enablePositionalOptions()
    .helpCommand(false)
    .hook("preSubcommand", (_, command) => loadCommand(command));
  groups.set(name, group);
  return group;
};

/** The command that words name, completed; null if there is none. */
export const findCommand = async (program: Command, words: readonly string[]): Promise<Command | null> => {
  let command = program;
  for (const word of words) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (next === undefined) return null;
    command = next;
  }
  await loadCommand(command);
  return command;
};
