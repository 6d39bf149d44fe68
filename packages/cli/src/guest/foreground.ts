import type { CreateVmRequest } from "@kiln/protocol";
import { KilnError, asKilnError } from "@kiln/protocol/errors";
import type { CommandSession, Kiln } from "@kiln/sdk";
import { exitCodeOf } from "../arguments/signals.ts";
import type { CommandContext } from "../context.ts";
import { beforeCommand, Failure } from "../failure.ts";
import { followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";
import { createWith } from "./create-vm.ts";
import { relay, type RelayOptions } from "./relay.ts";

/** docker's `run` in the foreground: create, attach, start, so that no output is missed; resolves with the command's exit code. */
export const runForeground = async (context: CommandContext, request: CreateVmRequest): Promise<number> => {
  const kiln = await context.connect();
  const id = await createWith(context, kiln, { ...request, start: false });
  try {
    const options = { tty: request.tty !== null && request.tty !== undefined, stdin: request.stdin ?? false, proxySignals: true };
    return await attachAndStart(context, kiln, { id, options });
  } catch (thrown) {
    const failure = thrown instanceof Failure ? thrown : beforeCommand(thrown);
    if (request.autoRemove === true) await removeAfter(kiln, id);
    throw failure;
  }
};

/** Attaches to a VM that does not run, then starts it; `epoch` is that of its next boot where it has run before. Throws a Failure of 125 until its command runs, of 1 afterwards. */
export const attachAndStart = async (
  context: CommandContext,
  kiln: Kiln,
  vm: { readonly id: string; readonly options: RelayOptions; readonly epoch?: number },
): Promise<number> => {
  const { id, options, epoch } = vm;
  await using session = kiln.vms.attach(id, { stdin: options.stdin, signal: context.signal, ...(epoch === undefined ? {} : { epoch }) });
  try {
    await session.connected;
    await using progress = new ProgressBlock(context.host, { json: context.json });
    const operation = await kiln.vms.start(id, { signal: context.signal });
    await followOperation(context, operation, { kiln, progress, cancel: true });
    await session.started;
  } catch (thrown) {
    throw beforeCommand(thrown);
  }
  return await relayToEnd(context, session, options);
};

/** Relays a command that runs; resolves with its exit code, 0 if the caller detached. */
export const relayToEnd = async (context: CommandContext, session: CommandSession, options: RelayOptions): Promise<number> => {
  try {
    const end = await relay(context, session, options);
    if (end.kind === "detached") return 0;
    if (end.exit.oomKilled) await context.note("kiln: the guest ran out of memory and killed the command\n");
    return exitCodeOf(end.exit);
  } catch (thrown) {
    const error = asKilnError(thrown);
    if (error.code === "INTERNAL") throw thrown;
    throw new Failure(error, error.exitCode);
  }
};

/** Removes what an interrupted or failed `run --rm` has made; the daemon may have done so. */
const removeAfter = async (kiln: Kiln, id: string): Promise<void> => {
  try {
    await kiln.operations.result(await kiln.vms.remove(id, { force: true }));
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    if (error.code !== "VM_NOT_FOUND" && error.code !== "DAEMON_UNREACHABLE") throw error;
  }
};
