import { type ChildProcess, spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { hasCode, identifyProcess, type ProcessIdentity } from "@kiln/std/node";
import { findStrayDescriptors } from "./descriptors.ts";

export interface ConfinedCommand {
  readonly command: string;
  readonly args: readonly string[];
  /** The uid and gid to run as; null keeps the caller's. Never 0. */
  readonly uid: number | null;
  /** Its one supplementary group, or none. Only with a uid. */
  readonly group: number | null;
  /** Its whole environment, besides PATH. */
  readonly environment: Readonly<Record<string, string>>;
  /** Open descriptors of this process; the child has them as 3, 4, … */
  readonly inherited: readonly number[];
  /** Entered first, by paths; with a user namespace the child has none of its privileges. null: those of this process. */
  readonly namespaces?: { readonly network: string; readonly user: string | null } | null;
  /** Runs with this process's privileges and then becomes the rest of the line: a sandbox that only root can make. */
  readonly wrapper?: readonly string[];
  /** Descriptors that it may have open; by default what a VMM needs. null: as many as this process. */
  readonly openFiles?: number | null;
  /** How long a file may become by what it writes. By default anything. */
  readonly fileBytes?: number;
}

export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ConfinedProcess {
  readonly child: ChildProcess;
  readonly identity: ProcessIdentity;
  /** Settles when it has ended and all that it said has been read; never rejects. */
  readonly ended: Promise<ProcessEnd>;
}

/** Where the host's tools are; the caller's own PATH does not decide what runs as a VMM. */
export const TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** A VMM of ours opens about 40 descriptors. */
const OPEN_FILES = 256;
const FIRST_INHERITED = 3;

/**
 * The command line that gives up every privilege before it becomes `command`: setpriv(1) for uid, groups,
 * capabilities and no_new_privs, prlimit(1) for what it may use up. Nothing is left in between: each replaces itself.
 */
export const confinedArgv = (command: ConfinedCommand): readonly string[] => {
  if (command.uid === 0) throw new KilnError("VMM_FAILED", `${command.command} must not run as root`);
  const groups = command.group === null ? ["--clear-groups"] : [`--groups=${command.group}`];
  const { namespaces = null, wrapper = [], openFiles = OPEN_FILES, fileBytes } = command;
  const files = [...(openFiles === null ? [] : [`--nofile=${openFiles}`]), ...(fileBytes === undefined ? [] : [`--fsize=${fileBytes}`])];
  const identity = command.uid === null ? [] : [`--reuid=${command.uid}`, `--regid=${command.uid}`, ...groups];
  // whoever enters a user namespace of its own has every capability in it
  const bounded = command.uid === null && (namespaces?.user ?? null) === null ? [] : ["--bounding-set=-all"];
  return [
    ...wrapper,
    ...(namespaces === null ? [] : enterArgv(namespaces)),
    ...["prlimit", "--core=0", ...files, "--memlock=65536", "--msgqueue=0", "--"],
    ...["setpriv", ...identity, ...bounded, "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--"],
    ...[command.command, ...command.args],
  ];
};

/** The command line of nsenter(1), to be followed by another. */
export const enterArgv = ({
  network,
  user,
}: {
  readonly network: string;
  readonly user: string | null;
}): readonly [string, ...string[]] => [
  "nsenter",
  ...[`--net=${network}`, ...(user === null ? [] : [`--user=${user}`, "--preserve-credentials"]), "--"],
];

/**
 * Starts it in a session of its own, in /, with an environment of only what is given, stdin and stdout closed off and
 * stderr a pipe. Throws HOST_TOOL_MISSING or VMM_FAILED; then nothing runs.
 */
export const spawnConfined = async (command: ConfinedCommand): Promise<ConfinedProcess> => {
  if (command.uid === null && process.getuid?.() === 0) {
    throw new KilnError("VMM_FAILED", `${command.command} would run as root; give it a uid of its own`);
  }
  const [tool = "", ...args] = confinedArgv(command);
  await using nothing = await open("/dev/null", "r+");
  const child = spawn(tool, args, {
    cwd: "/",
    detached: true,
    env: { PATH: TOOL_PATH, LC_ALL: "C", ...command.environment },
    stdio: ["ignore", "ignore", "pipe", ...command.inherited, ...coverStrays(await findStrayDescriptors(), command.inherited, nothing.fd)],
  });
  const { pid } = child;
  if (pid === undefined) throw await spawnFailure(child, tool);
  const ended = new Promise<ProcessEnd>((resolve) => child.once("close", (exitCode, signal) => resolve({ exitCode, signal })));
  const identity = await identifyProcess(pid);
  // An unreaped child keeps its pid, so null means a zombie: its end arrives as the child's "exit".
  if (identity === null) throw new KilnError("VMM_FAILED", `${command.command} ended as soon as it was started: ${await readAll(child)}`);
  return { child, identity, ended };
};

/** A stray descriptor cannot be closed in the child, but another be put in its place; "ignore" leaves a number above 2 as it is. */
const coverStrays = (strays: readonly number[], inherited: readonly number[], nothing: number): readonly (number | "ignore")[] => {
  const first = FIRST_INHERITED + inherited.length;
  return Array.from({ length: Math.max(0, Math.max(0, ...strays) + 1 - first) }, (_, at) =>
    strays.includes(first + at) ? nothing : "ignore",
  );
};

const spawnFailure = async (child: ChildProcess, tool: string): Promise<KilnError> => {
  const cause = await new Promise<Error>((resolve) => child.once("error", resolve));
  const isMissing = hasCode(cause, "ENOENT");
  return new KilnError(isMissing ? "HOST_TOOL_MISSING" : "VMM_FAILED", `${tool} could not be started`, { cause });
};

const readAll = async (child: ChildProcess): Promise<string> => {
  const chunks: Uint8Array[] = [];
  const stderr: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = child.stderr ?? [];
  for await (const chunk of stderr) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8").slice(-1024).trim();
};
