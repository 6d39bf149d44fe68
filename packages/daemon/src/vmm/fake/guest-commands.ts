import { appendFile } from "node:fs/promises";

/** The commands that a fake guest knows. Each returns its exit code; one that is killed rejects with `killed`'s reason. */

export interface CommandIo {
  readonly env: readonly string[];
  write(stream: "stdout" | "stderr", bytes: Uint8Array): void;
  /** null at the end of stdin. */
  readStdin(): Promise<Uint8Array | null>;
  sleep(ms: number): Promise<void>;
  readonly machine: MachineSwitches;
}

/** What a command of a fake guest can do to the machine that it runs on. */
export interface MachineSwitches {
  /** The VMM is gone at once. */
  halt(): void;
  /** The agent's channel breaks off; the guest runs on. */
  hangUp(): void;
}

type Command = (args: readonly string[], io: CommandIo) => Promise<number>;

const encoder = new TextEncoder();

/** Words of one shell statement: quotes group, nothing is expanded. */
const words = (statement: string): string[] =>
  Array.from(statement.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g), ([, single, double, bare]) => single ?? double ?? bare ?? "");

const shell: Command = async (args, io) => {
  if (args[0] !== "-c" || args[1] === undefined) return 2;
  let code = 0;
  for (const statement of args[1].split(/;|&&|\n/)) {
    const [name, ...rest] = words(statement);
    if (name === undefined) continue;
    const command = COMMANDS.get(name);
    if (command === undefined) io.write("stderr", encoder.encode(`sh: ${name}: not found\n`));
    code = command === undefined ? 127 : await command(rest, io);
    if (name === "exit") return code;
  }
  return code;
};

const cat: Command = async (_args, io) => {
  for (let bytes = await io.readStdin(); bytes !== null; bytes = await io.readStdin()) io.write("stdout", bytes);
  return 0;
};

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ["true", async () => 0],
  ["init", async () => 0],
  ["false", async () => 1],
  ["exit", async ([code]) => Number(code ?? 0) & 255],
  ["cat", cat],
  ["sh", shell],
  [
    "echo",
    async (args, io) => {
      io.write("stdout", encoder.encode(`${args.join(" ")}\n`));
      return 0;
    },
  ],
  [
    "env",
    async (_args, io) => {
      io.write("stdout", encoder.encode(io.env.map((entry) => `${entry}\n`).join("")));
      return 0;
    },
  ],
  [
    // a fake guest has no disk: what it writes down is a line of a file of the host
    "record",
    async ([path, ...line]) => {
      if (path?.startsWith("/") !== true) return 2;
      await appendFile(path, `${line.join(" ")}\n`);
      return 0;
    },
  ],
  [
    "halt",
    async (_args, io) => {
      io.machine.halt();
      return 0;
    },
  ],
  [
    "hang-up",
    async (_args, io) => {
      io.machine.hangUp();
      return 0;
    },
  ],
  [
    "sleep",
    async ([seconds], io) => {
      await io.sleep(Number(seconds ?? 0) * 1000);
      return 0;
    },
  ],
]);

/** By name or path ("/bin/echo"); null where the fake guest has no such command. */
export const findCommand = (name: string): Command | null => COMMANDS.get(name.slice(name.lastIndexOf("/") + 1)) ?? null;
