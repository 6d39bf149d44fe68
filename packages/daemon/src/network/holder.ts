import { type FileHandle, open } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { abortable, type Clock, withDeadline } from "@kiln/std";
import { identifyProcess, type ProcessIdentity, processState } from "@kiln/std/node";
import { type ConfinedProcess, enterArgv, spawnConfined } from "../host/confined.ts";
import { closeCommands, FOLLOW_HOST } from "./address-plan.ts";
import { NETWORK_LIMITS } from "./limits.ts";

/** The names of the markers by which the processes of a home's network are found when nobody knows their pids. */
export const MARKER = "KILN_EGRESS";

/** The namespaces of a home's VMs, and the processes that hold them open and follow the host's addresses. */
export interface Holder {
  /** Leads the group of the three. */
  readonly leader: ProcessIdentity;
  /** The one that is in the namespaces. */
  readonly member: ProcessIdentity;
}

/** Open descriptors of both namespaces: they stay these very ones, whoever gets the holder's pid. */
export interface OpenNamespaces extends AsyncDisposable {
  readonly network: FileHandle;
  readonly user: FileHandle;
}

const CLOSE_SCRIPT = `printf '%s' "$2" | ip -batch - || exit 1`;
/** What it says when the namespace is closed. Whoever reads its stderr may go away. */
const READY_SCRIPT = `echo "ready $$" >&2; exec 2>/dev/null`;
/** Where nothing follows the host any more it still holds the namespace. */
const HOLD_SCRIPT = `exec sleep infinity`;

/**
 * Three processes in a group: ip(8) says in the host's namespace which addresses come and go, a shell in the new one closes
 * them, and a shell waits for both. `marks`: the environment that they are found by.
 */
export const startHolder = async (
  parts: { uid: number | null; marks: Readonly<Record<string, string>>; mac: string; into: OpenNamespaces | null },
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<Holder> => {
  const { uid, marks, mac, into } = parts;
  const enter =
    into === null
      ? ["unshare", "--user", "--map-root-user", "--net", "--"]
      : enterArgv({ network: "/proc/self/fd/3", user: "/proc/self/fd/4" });
  const inside = [...(into === null ? [CLOSE_SCRIPT] : []), READY_SCRIPT, FOLLOW_HOST, HOLD_SCRIPT].join("\n");
  const confined = await spawnConfined({
    command: "sh",
    args: [
      "-c",
      `trap '' PIPE; ip -4 -o monitor address 3<&- 4<&- | "$@"`,
      mac,
      ...enter,
      "sh",
      "-c",
      inside,
      mac,
      mac,
      closeCommands().join("\n"),
    ],
    ...{ uid, group: null, inherited: into === null ? [] : [into.network.fd, into.user.fd] },
    environment: marks,
  });
  const member = await withDeadline(NETWORK_LIMITS.holderMs, (inner) => abortable(readReady(confined), inner), {
    ...{ clock, signal },
    onTimeout: () => new KilnError("NETWORK_UNAVAILABLE", "the namespace of the VMs' network was not ready in time"),
  }).catch((error: unknown) => {
    endGroup(confined.identity);
    throw error;
  });
  confined.child.stderr?.destroy();
  confined.child.unref();
  return { leader: confined.identity, member };
};

const readReady = async ({ child, ended }: ConfinedProcess): Promise<ProcessIdentity> => {
  let said = "";
  const stderr: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = child.stderr?.iterator({ destroyOnReturn: false }) ?? [];
  for await (const chunk of stderr) {
    said = (said + Buffer.from(chunk).toString("utf8")).slice(-NETWORK_LIMITS.stderrBytes);
    const pid = /^ready ([0-9]+)$/m.exec(said)?.[1];
    const identity = pid === undefined ? null : await identifyProcess(Number(pid));
    if (identity !== null) return identity;
  }
  await ended;
  throw new KilnError("NETWORK_UNAVAILABLE", `the namespace of the VMs' network could not be made: ${said.trim()}`);
};

/** SIGKILL to all three; they were started as one group. */
export const endGroup = (leader: ProcessIdentity): void => {
  try {
    process.kill(-leader.pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
};

/** null where the holder is gone. */
export const openNamespaces = async (member: ProcessIdentity): Promise<OpenNamespaces | null> => {
  await using opened = new AsyncDisposableStack();
  if ((await processState(member)) !== "alive") return null;
  const network = opened.use(await open(`/proc/${member.pid}/ns/net`));
  const user = opened.use(await open(`/proc/${member.pid}/ns/user`));
  // they were opened of the process that still has the pid
  if ((await processState(member)) !== "alive") return null;
  const kept = opened.move();
  return { network, user, [Symbol.asyncDispose]: () => kept.disposeAsync() };
};
