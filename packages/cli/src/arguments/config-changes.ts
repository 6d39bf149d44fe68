import type { Command } from "commander";
import { KilnError } from "@kiln/protocol/errors";
import { collect } from "../command-spec.ts";
import { parseLabels } from "./environment.ts";

/** What `promote` and `customize` say of the new image's config, as commander gives it. */
export interface ConfigOptions {
  readonly cmd?: string;
  readonly entrypoint?: string;
  readonly label?: readonly string[];
}

export const declareConfigOptions = (command: Command): Command =>
  command
    .option("--cmd <command>", "the image's command: a line for /bin/sh, or a JSON list of words")
    .option(
      "--entrypoint <program>",
      'the image\'s entrypoint: a program, a JSON list of words, or "" for none; drops the command that was there',
    )
    .option("-l, --label <pair>", "set a label KEY=VALUE of the image; may be repeated", collect);

/** Throws USAGE. */
export const configChanges = ({ cmd, entrypoint, label = [] }: ConfigOptions) => ({
  command: cmd === undefined ? null : (parseWords(cmd, "--cmd") ?? (cmd === "" ? [] : ["/bin/sh", "-c", cmd])),
  entrypoint: entrypoint === undefined ? null : (parseWords(entrypoint, "--entrypoint") ?? (entrypoint === "" ? [] : [entrypoint])),
  labels: parseLabels(label),
});

/** A JSON list of words, as in a Dockerfile; null for what does not begin as one. Throws USAGE. */
const parseWords = (text: string, option: string): string[] | null => {
  if (!text.trimStart().startsWith("[")) return null;
  const words = parseJson(text);
  if (Array.isArray(words) && words.every((word) => typeof word === "string")) return words;
  throw new KilnError("USAGE", `${option} ${text}: it begins as a JSON list and is none of words`, {
    hint: `write for example ${option} '["nginx", "-g", "daemon off;"]'`,
  });
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
};
