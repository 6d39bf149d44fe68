import type { Command, Option } from "commander";
import { loadCommand } from "../program.ts";

export interface OptionWord {
  /** "--name", or "-n" where there is no long one. */
  readonly long: string;
  readonly short: string | null;
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

export interface CommandWords {
  /** The words that call it, without "kiln"; empty is kiln itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly commands: readonly { readonly name: string; readonly summary: string }[];
  readonly options: readonly OptionWord[];
}

const describeOption = (option: Option): OptionWord => ({
  long: option.long ?? option.short ?? "",
  short: option.long === undefined ? null : (option.short ?? null),
  description: option.description,
  takesValue: option.required || option.optional,
  choices: option.argChoices ?? [],
});

/** Every command with its options: the one place that reads them all. */
export const describeCommands = async (program: Command, path: readonly string[] = []): Promise<CommandWords[]> => {
  await loadCommand(program);
  const own: CommandWords = {
    path,
    summary: program.summary() || program.description(),
    commands: program.commands.map((command) => ({ name: command.name(), summary: command.summary() })),
    options: program.options.map(describeOption),
  };
  const below = await Promise.all(program.commands.map((command) => describeCommands(command, [...path, command.name()])));
  return [own, ...below.flat()];
};
