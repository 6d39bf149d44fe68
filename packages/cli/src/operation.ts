import type { OperationView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import type { CommandContext } from "./context.ts";
import { forEachName } from "./names.ts";
import { progressOf, type ProgressBlock } from "./render/progress.ts";

export interface Following {
  readonly kiln: Kiln;
  readonly progress: ProgressBlock;
  /** An interruption ends the operation, not only the waiting. */
  readonly cancel: boolean;
  /** Hears each change; without it, only a terminal is told. */
  readonly onChange?: ((change: OperationView) => void) | undefined;
}

/** How long an interrupted command waits for its operation to undo itself. */
const UNDO_MS = 15_000;

/** Follows an operation to its end with progress; throws what made it fail. */
export const followOperation = async (context: CommandContext, operation: OperationView, following: Following): Promise<OperationView> => {
  const { kiln } = following;
  const show = (change: OperationView): void => {
    following.onChange?.(change);
    if (context.host.stderr.isTTY) following.progress.show(operation.id, progressOf(change));
  };
  const onChange = context.host.stderr.isTTY || following.onChange !== undefined ? show : undefined;
  try {
    return await kiln.operations.result(operation, { signal: context.signal, onChange });
  } catch (error) {
    if (context.signal.aborted && following.cancel) await cancelOperation(kiln, operation.id);
    throw error;
  } finally {
    await following.progress.clear(operation.id);
  }
};

/** Returns when the operation has ended, so that nothing of it is left behind. */
const cancelOperation = async (kiln: Kiln, id: string): Promise<void> => {
  const signal = AbortSignal.timeout(UNDO_MS);
  try {
    await kiln.operations.cancel(id, { signal });
    await kiln.operations.wait(id, { signal });
  } catch (error) {
    if (signal.aborted || (error instanceof KilnError && error.code === "OPERATION_NOT_FOUND")) return;
    throw error;
  }
};

/** What `--no-wait` prints: the operation, and the work of somebody else that it has joined. */
export interface Begun {
  readonly operation: string;
  readonly joined: string | null;
}

export const begun = (operation: OperationView): Begun => ({
  operation: operation.id,
  joined: operation.joined,
});

/** Begins one operation for each name and leaves it to the daemon. */
export const beginEach = (
  context: CommandContext,
  names: readonly string[],
  begin: (name: string) => Promise<OperationView>,
): Promise<number> => forEachName(context, { names, act: async (name) => begun(await begin(name)), print: ({ operation }) => operation });

export const printBegun = (context: CommandContext, operation: OperationView): Promise<void> =>
  context.json ? context.printJson(begun(operation)) : context.print(`${operation.id}\n`);
