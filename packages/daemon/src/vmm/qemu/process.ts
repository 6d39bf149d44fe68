import { KilnError } from "@kiln/protocol";
import { type Clock, withDeadline } from "@kiln/std";
import { processState, type ProcessIdentity } from "@kiln/std/node";
import { type ConfinedProcess, type ProcessEnd } from "../../host/confined.ts";
import { endProcess, waitUntilGone } from "../../host/proc.ts";
import { VMM_LIMITS } from "../limits.ts";
import { ByteTail } from "./byte-tail.ts";

/** A QEMU, whether this daemon started it or an earlier one. */
export interface QemuProcess {
  readonly identity: ProcessIdentity;
  /** Says how it ended, in words; never settles after `release`. */
  readonly gone: Promise<string>;
  /** SIGKILL to that very process; resolves when it is gone. Idempotent. Rejects if the host's kernel does not let it go. */
  end(): Promise<void>;
  /** Stops watching it. */
  release(): void;
}

/** A child: its exit status and what it wrote to stderr are known. */
export const watchChild = ({ child, identity, ended }: ConfinedProcess, clock: Clock): QemuProcess => {
  const said = new ByteTail(VMM_LIMITS.stderrBytes);
  child.stderr?.on("data", (chunk: Buffer) => said.add(chunk));
  const gone = ended.then((end) => describeEnd(end, said.text().trim()));
  return {
    identity,
    gone,
    end: async () => {
      await endBounded(identity, clock);
      await gone;
    },
    release: () => {
      child.stderr?.destroy();
      child.unref();
    },
  };
};

/** Not a child: it is looked at until it is gone; how it ended, nobody can say. */
export const watchAdopted = (identity: ProcessIdentity, clock: Clock): QemuProcess => {
  const watching = new AbortController();
  const gone = waitUntilGone(identity, { clock, signal: watching.signal, lookMs: VMM_LIMITS.adoptedLookMs }).then(
    () => "QEMU ended; it was not this daemon's child, so its exit status is not known",
    // Rejects only because of `release`: from then on nobody asks.
    () => new Promise<string>(() => undefined),
  );
  return {
    identity,
    gone,
    end: () => endBounded(identity, clock),
    release: () => watching.abort(),
  };
};

const endBounded = async (identity: ProcessIdentity, clock: Clock): Promise<void> => {
  await withDeadline(VMM_LIMITS.killMs, (signal) => endProcess(identity, { clock, signal }), {
    ...{ clock, signal: new AbortController().signal },
    onTimeout: () => new KilnError("VMM_FAILED", `process ${identity.pid} is still there ${VMM_LIMITS.killMs} ms after SIGKILL`),
  });
};

/** Whether that very process is gone, seen from here. */
export const isGone = async (identity: ProcessIdentity): Promise<boolean> => (await processState(identity)) === "dead";

const describeEnd = ({ exitCode, signal }: ProcessEnd, said: string): string => {
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  return `QEMU ended ${how}${said === "" ? "" : `: ${said}`}`;
};
