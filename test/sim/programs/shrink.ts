import type { Command, Fate, Program, Setting } from "./program.ts";

/** Nothing goes wrong by itself, and nothing is short. */
const PLAIN: Partial<Setting> = { badBoots: 0, preboot: false, pool: false, bootMs: 0 };

/**
 * The smallest program that is found for which `fails` still holds: without a client, a fate, a command, a fault at a
 * time, until nothing more can go. `fails` is asked at most `tries` times.
 */
export const shrink = async (program: Program, fails: (candidate: Program) => Promise<boolean>, tries = 2_000): Promise<Program> => {
  let [best, left] = [program, tries];
  for (let hasShrunk = true; hasShrunk && left > 0;) {
    hasShrunk = false;
    for (const candidate of smaller(best)) {
      if (left <= 0) break;
      left -= 1;
      if (!(await fails(candidate))) continue;
      [best, hasShrunk] = [candidate, true];
      break;
    }
  }
  return best;
};

const without = <Item>(items: readonly Item[], index: number): Item[] => items.toSpliced(index, 1);

/** Programs that are a little smaller, those that lack most first. */
export function* smaller(program: Program): Generator<Program> {
  const { clients, fates, setting } = program;
  for (const index of clients.keys()) if (clients.length > 1) yield { ...program, clients: without(clients, index) };
  for (const index of fates.keys()) yield { ...program, fates: without(fates, index) };
  for (const fault of Object.keys(setting.faults)) {
    const faults = Object.fromEntries(Object.entries(setting.faults).filter(([name]) => name !== fault));
    yield { ...program, setting: { ...setting, faults } };
  }
  for (const [name, value] of Object.entries(PLAIN)) {
    if (setting[name as keyof Setting] !== value) yield { ...program, setting: { ...setting, [name]: value } };
  }
  for (const [client, commands] of clients.entries()) {
    for (const index of commands.keys()) {
      if (commands.length > 1) yield { ...program, clients: clients.with(client, without(commands, index)) };
    }
  }
  for (const [client, commands] of clients.entries()) {
    for (const [index, command] of commands.entries()) {
      for (const plainer of plainerCommands(command)) yield { ...program, clients: clients.with(client, commands.with(index, plainer)) };
    }
  }
  for (const [index, fate] of fates.entries()) {
    for (const plainer of plainerFates(fate)) yield { ...program, fates: fates.with(index, plainer) };
  }
}

function* plainerCommands(command: Command): Generator<Command> {
  if ("key" in command && command.key !== null) yield { ...command, key: null };
  if ("wait" in command && !command.wait) yield { ...command, wait: true };
  if (command.do === "create") {
    if (command.hostPort !== null) yield { ...command, hostPort: null };
    if (command.size !== 1) yield { ...command, size: 1 };
    if (command.autoRemove) yield { ...command, autoRemove: false };
    if (command.pull !== "missing") yield { ...command, pull: "missing" };
    if (command.start) yield { ...command, start: false };
    if (command.seconds !== null && command.seconds !== 3_600) yield { ...command, seconds: 3_600 };
  }
  if (command.do === "exec" && command.seconds !== 0) yield { ...command, seconds: 0 };
}

function* plainerFates(fate: Fate): Generator<Fate> {
  if ("down" in fate && fate.down > 0) yield { ...fate, down: 0 };
  if ("which" in fate && fate.which > 0) yield { ...fate, which: 0 };
}
