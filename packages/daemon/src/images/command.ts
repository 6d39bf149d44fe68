import type { ImageConfig } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";

/** What a caller says of the command; null and empty are different, as with docker. */
export interface CommandRequest {
  readonly command: readonly string[] | null;
  readonly entrypoint: readonly string[] | null;
  readonly env: readonly string[];
  readonly workingDir: string | null;
  readonly user: string | null;
  readonly idle: boolean;
}

export interface ResolvedCommand {
  /** null: no command runs and the VM lives until it is stopped. */
  readonly argv: readonly string[] | null;
  /** NAME=VALUE, each name once. */
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  /** For example "SIGTERM". */
  readonly stopSignal: string;
}

type CommandConfig = Pick<ImageConfig, "entrypoint" | "cmd" | "env" | "workingDir" | "user" | "stopSignal">;

/** What docker gives a container whose image says nothing. */
export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Docker's rules: a command replaces CMD, an entrypoint replaces ENTRYPOINT and drops CMD, `--entrypoint ""` clears
 * it. An image without a command idles unless the caller took the command away. Throws VM_NO_COMMAND.
 */
export const resolveCommand = (config: CommandConfig, request: CommandRequest): ResolvedCommand => ({
  argv: request.idle ? null : resolveArgv(config, request),
  env: mergeEnvironment(config.env, request.env),
  workingDir: request.workingDir ?? absolute(config.workingDir),
  user: request.user ?? config.user,
  stopSignal: stopSignalName(config.stopSignal),
});

const resolveArgv = (config: CommandConfig, request: CommandRequest): readonly string[] | null => {
  const command = request.command ?? [];
  const replacesEntrypoint = request.entrypoint !== null && request.entrypoint.length > 0;
  const isCleared = replacesEntrypoint && request.entrypoint[0] === "";
  const entrypoint = isCleared ? [] : (request.entrypoint ?? config.entrypoint);
  const argv = [...entrypoint, ...(command.length > 0 || replacesEntrypoint ? command : config.cmd)];
  if (argv.length > 0) return argv;
  if (request.entrypoint === null) return null;
  throw new KilnError("VM_NO_COMMAND", "the entrypoint is cleared and there is no command");
};

/** The request's over the image's over docker's PATH. */
export const mergeEnvironment = (image: readonly string[], request: readonly string[]): readonly string[] =>
  mergeVariables([`PATH=${DEFAULT_PATH}`, ...image, ...request]);

/** NAME=VALUE, each name once: a name keeps its first place, the last value wins. */
export const mergeVariables = (entries: readonly string[]): readonly string[] => {
  const values = new Map<string, string>();
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    if (equals > 0) values.set(entry.slice(0, equals), entry);
  }
  return [...values.values()];
};

const absolute = (directory: string): string => (directory.startsWith("/") ? directory : `/${directory}`);

/** Numbers that differ between architectures are not among those that images use. */
const SIGNAL_NUMBERS: Readonly<Record<string, string>> = {
  ...{ "1": "SIGHUP", "2": "SIGINT", "3": "SIGQUIT", "6": "SIGABRT", "9": "SIGKILL" },
  ...{ "10": "SIGUSR1", "12": "SIGUSR2", "14": "SIGALRM", "15": "SIGTERM", "28": "SIGWINCH" },
};

/** What is no signal becomes SIGTERM: an image's slip must not make its VMs unstoppable. */
const stopSignalName = (text: string): string => {
  const upper = text.trim().toUpperCase();
  const name = SIGNAL_NUMBERS[upper] ?? (upper.startsWith("SIG") ? upper : `SIG${upper}`);
  return /^SIG[A-Z]{2,}[0-9]?$|^SIGRTM(?:IN\+|AX-)[0-9]{1,2}$/.test(name) ? name : "SIGTERM";
};
