import { causesOf, toProblem, type KilnError } from "@kiln/protocol/errors";
import { escapeControl } from "./escape.ts";

/** An error as one line of RFC 9457, or for people: the message, its causes, the next step. */
export const renderError = (error: KilnError, options: { readonly json: boolean; readonly exitCode: number }): string => {
  if (options.json) return `${JSON.stringify({ ...toProblem(error), exitCode: options.exitCode })}\n`;
  const said = [error.message];
  for (const cause of [...error.remoteCauses, ...causesOf(error)]) {
    if (!said.some((one) => one.includes(cause))) said.push(cause); // a message often ends with its cause
  }
  const causes = said.slice(1);
  const lines = [
    `kiln: ${escapeLines(error.message, "  ")}`,
    ...causes.map((cause) => `  ${escapeLines(cause, "    ")}`),
    `  hint: ${escapeControl(error.hint)}`,
  ];
  return `${lines.join("\n")}\n`;
};

/** Line feeds stay, indented: a tool's own words may have several lines. */
const escapeLines = (text: string, indent: string): string => text.trimEnd().split("\n").map(escapeControl).join(`\n${indent}`);
