import { KilnError } from "@kiln/protocol/errors";
import type { CreateVmRequest, RegistryCredentials, VmView } from "@kiln/protocol";
import { isUnreachable, type CallOptions } from "./api-client.ts";
import { joinBytes } from "./bytes.ts";
import type { CommandExit } from "./command-session.ts";
import type { Kiln } from "./kiln.ts";
import type { ExecOptions } from "./resources/vms.ts";

export interface SandboxOptions extends CreateVmRequest, CallOptions {
  readonly kiln: Kiln;
  /** For the registry of an image that is not there, by host. */
  readonly credentials?: RegistryCredentials | undefined;
}

export interface SandboxExecOptions extends CallOptions, Partial<Omit<ExecOptions, "command" | "stdin" | "tty">> {
  /** Given to the command's stdin, which then ends. */
  readonly input?: string | Uint8Array;
  /** Output as it comes; the result has all of it nevertheless. */
  readonly onOutput?: (chunk: { readonly stream: "stdout" | "stderr"; readonly bytes: Uint8Array }) => void;
  /** The most that is kept of stdout and of stderr; 16 MiB unless told. */
  readonly maxOutputBytes?: number;
}

export interface SandboxResult extends CommandExit {
  /** As UTF-8. */
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_OUTPUT_BYTES = 16 * 2 ** 20;

/**
 * An idle VM to run commands in: `await using sandbox = await Sandbox.create({ kiln, image })`.
 * A command that ends with a code other than 0 is a result, not an error.
 */
export class Sandbox implements AsyncDisposable {
  readonly id: string;
  readonly name: string;
  readonly #kiln: Kiln;

  private constructor(kiln: Kiln, vm: VmView) {
    this.#kiln = kiln;
    this.id = vm.id;
    this.name = vm.name;
  }

  /** Resolves when commands can run. A failed or aborted creation leaves no VM. */
  static async create(options: SandboxOptions): Promise<Sandbox> {
    const { kiln, signal, credentials, ...request } = options;
    const operation = await kiln.vms.create({ idle: true, start: true, ...request }, { signal, credentials });
    try {
      const { result } = await kiln.operations.result(operation, { signal });
      if (result === null) throw new KilnError("INTERNAL", "a created VM has no id", { operation: operation.id });
      return new Sandbox(kiln, await kiln.vms.get(result, { signal }));
    } catch (error) {
      await undo(kiln, operation.id).catch(ignoreUnreachable); // what made the creation fail is the error to tell
      throw error;
    }
  }

  /** Runs a command to its end: an array of arguments, or a line for the guest's /bin/sh. */
  async exec(command: string | readonly string[], options: SandboxExecOptions = {}): Promise<SandboxResult> {
    const { signal, input, onOutput, maxOutputBytes = DEFAULT_OUTPUT_BYTES, ...request } = options;
    const argv = typeof command === "string" ? ["/bin/sh", "-c", command] : [...command];
    await using session = this.#kiln.vms.exec(this.id, { ...request, command: argv, stdin: input !== undefined }, { signal });
    const feeding =
      input === undefined ? Promise.resolve(false) : feed(session, typeof input === "string" ? new TextEncoder().encode(input) : input);
    const kept = { stdout: new KeptOutput(maxOutputBytes), stderr: new KeptOutput(maxOutputBytes) };
    for await (const chunk of session) {
      onOutput?.(chunk);
      kept[chunk.stream].add(chunk.bytes);
    }
    await feeding;
    return { ...(await session.exit), stdout: kept.stdout.text(), stderr: kept.stderr.text() };
  }

  /** Ends the VM and deletes its disk; again is no error. */
  async remove(options: CallOptions = {}): Promise<void> {
    try {
      await this.#kiln.operations.result(await this.#kiln.vms.remove(this.id, { ...options, force: true }), options);
    } catch (error) {
      if (!(error instanceof KilnError && error.code === "VM_NOT_FOUND")) throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.remove();
  }
}

/** The first `limitBytes` of a stream. */
class KeptOutput {
  readonly #chunks: Uint8Array[] = [];
  #leftBytes: number;

  constructor(limitBytes: number) {
    this.#leftBytes = limitBytes;
  }

  add(bytes: Uint8Array): void {
    const part = bytes.subarray(0, this.#leftBytes);
    this.#leftBytes -= part.length;
    if (part.length > 0) this.#chunks.push(part);
  }

  text(): string {
    return new TextDecoder().decode(joinBytes(this.#chunks));
  }
}

const PIECE_BYTES = 2 ** 16;

const feed = async (
  session: { write(bytes: Uint8Array): Promise<boolean>; endStdin(): Promise<boolean> },
  input: Uint8Array,
): Promise<boolean> => {
  for (let at = 0; at < input.length; at += PIECE_BYTES) {
    if (!(await session.write(input.subarray(at, at + PIECE_BYTES)))) return false;
  }
  return session.endStdin();
};

const ignoreUnreachable = (error: unknown): void => {
  if (!isUnreachable(error)) throw error;
};

/** Cancels a creation and deletes the VM that it may have made. */
const undo = async (kiln: Kiln, operationId: string): Promise<void> => {
  await kiln.operations.cancel(operationId);
  const { result } = await kiln.operations.wait(operationId);
  if (result === null) return;
  try {
    await kiln.operations.result(await kiln.vms.remove(result, { force: true }));
  } catch (error) {
    if (!(error instanceof KilnError && error.code === "VM_NOT_FOUND")) throw error;
  }
};
