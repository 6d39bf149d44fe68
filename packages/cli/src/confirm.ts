import { createInterface } from "node:readline";
import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "./context.ts";
import { writeTo } from "./streams.ts";

/**
 * Asks a person; anything but y or yes, the end of the input included, is no. Throws USAGE where nobody can be asked.
 */
export const confirm = async (context: CommandContext, question: string): Promise<boolean> => {
  const { stdin, stderr } = context.host;
  await writeTo(stderr, `${question} [y/N] `);
  // no terminal of readline's: it would take the keys that interrupt
  const lines = createInterface({ input: stdin, terminal: false });
  try {
    const answer = await new Promise<string>((resolve, reject) => {
      context.signal.addEventListener("abort", () => reject(context.signal.reason as Error), { once: true });
      lines.once("line", resolve);
      lines.once("close", () => resolve(""));
    });
    return /^\s*y(es)?\s*$/i.test(answer);
  } finally {
    lines.close();
  }
};

/** Throws USAGE where a question has nobody to answer it. */
export const requireSomebody = (context: CommandContext): void => {
  if (context.json || !context.host.stdin.isTTY || !context.host.stderr.isTTY) {
    throw new KilnError("USAGE", "nobody can be asked whether to remove it: there is no terminal", {
      hint: "look with --dry-run, and say -f to do it",
    });
  }
};
