import type { Command } from "commander";
import type { CommandContext } from "./context.ts";

/** One command, in its own file, loaded when it is called. */
export interface CommandSpec {
  /** Arguments, options and examples. */
  configure(command: Command): void;
  /** Resolves with the exit code; nothing is 0. Arguments are `command.args`. */
  run(context: CommandContext, command: Command): Promise<number | void>;
}

/** Gathers an option that may be given several times. */
export const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value];

/** Examples at the end of a command's help. */
export const examples = (...lines: readonly string[]): string => `\nExamples:\n${lines.map((line) => `  $ ${line}`).join("\n")}\n`;
