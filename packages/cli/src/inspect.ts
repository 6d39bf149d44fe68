import type { CommandContext } from "./context.ts";

/** All or nothing: one object for one name, an array for several; indented for people. */
export const printObjects = async (
  context: CommandContext,
  names: readonly string[],
  get: (name: string) => Promise<unknown>,
): Promise<void> => {
  const found = await Promise.all(names.map(get));
  const value = found.length === 1 ? found[0] : found;
  if (context.json) await context.printJson(value);
  else await context.print(`${JSON.stringify(value, null, 2)}\n`);
};
