import { ToolError } from "@kiln/std/node";

/** What went wrong, and what caused it, in a line. */
export const errorText = (error: unknown): string => {
  const texts: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause)
    texts.push(at instanceof ToolError ? `${at.message} ${at.stderr}` : at.message);
  return texts.join(": ").replaceAll("\n", " ") || String(error);
};
