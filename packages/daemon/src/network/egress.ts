import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdir, readFile, readlink, rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { asKilnError, KilnError } from "@kiln/protocol";
import { type Clock, SingleFlight } from "@kiln/std";
import { hasCode, processState, type ProcessIdentity, publishBytes, runTool } from "@kiln/std/node";
import { z } from "zod";
import { enterArgv, TOOL_PATH } from "../host/confined.ts";
import { endProcess } from "../host/proc.ts";
import type { NetworkNamespace } from "../vms/driver.port.ts";
import { GUEST_NETWORK } from "../vms/guest-network.ts";
import type { ConnectedMode, OpenNetwork, VmNetworks } from "../vms/network.port.ts";
import { closeHostCommands, openHostCommands, PLAN, uplinkCommands } from "./address-plan.ts";
import { type Holder, MARKER, type OpenNamespaces, openNamespaces, startHolder } from "./holder.ts";
import { NETWORK_LIMITS } from "./limits.ts";
import { parseDefaultInterface, parseLocalPrefixes } from "./local-routes.ts";
import { findNetworkProcesses } from "./processes.ts";
import { guestResolvConf, hostResolvers, isNeverReachable } from "./resolv-conf.ts";
import { startUplink } from "./uplink.ts";

const PREFIX = "the VMs' network";

export interface EgressParts {
  /** Of this adapter's own, below the home. */
  readonly directory: string;
  readonly stagingDir: string;
  /** What its processes run as where the daemon is root: nobody's but theirs. null: the daemon's own. */
  readonly uid: number | null;
  readonly clock: Clock;
  readonly journal: { warn(fields: Readonly<Record<string, unknown>>, message: string): void };
}

const identity = z.object({ bootId: z.string(), pidNamespace: z.string(), pid: z.int().positive(), startTime: z.string() });
const egressRecord = z.object({
  holder: z.object({ leader: identity, member: identity }),
  uplink: identity.nullable(),
  /** The network namespace of the daemon that wrote it: what was started there leads elsewhere for one in another. */
  host: z.string(),
});
type EgressRecord = z.output<typeof egressRecord>;

/** Which of the home's processes go on: a holder's, by its leader, and an uplink. */
interface Kept {
  readonly leader: ProcessIdentity | null;
  readonly uplink: ProcessIdentity | null;
}

const NONE: Kept = { leader: null, uplink: null };

/** The namespace as this daemon has it open. */
interface Egress {
  holder: Holder;
  namespaces: OpenNamespaces;
  uplink: ProcessIdentity | null;
  /** The first resolver of the host when the uplink was started: it asks no other. */
  resolver: string | null;
  /** The host's addresses that are known to be closed. */
  closed: ReadonlySet<string>;
}

/**
 * One network namespace for all VMs of a home, with one uplink, pasta. Both outlive the daemon, as the VMs in it do; the
 * next daemon finds them by their identities, ends what it does not know, and starts anew what has died.
 */
export class EgressNetwork implements VmNetworks {
  readonly #parts: EgressParts;
  readonly #mac: string;
  readonly #flights = new SingleFlight<"egress", void>();
  readonly #closing = new AbortController();
  #egress: Egress | null = null;
  #watching: Promise<void> | null = null;

  constructor(parts: EgressParts) {
    this.#parts = parts;
    const digest = createHash("sha256").update(parts.directory).digest("hex");
    this.#mac = ["02", ...(digest.slice(0, 10).match(/../g) ?? [])].join(":");
  }

  async open(mode: ConnectedMode, { signal }: { signal: AbortSignal }): Promise<OpenNetwork> {
    const hostText = await readHostResolvConf();
    if (mode === "user-open") {
      return { uplink: { namespace: null }, resolvConf: guestResolvConf(GUEST_NETWORK.resolver, hostText, isNeverReachable) };
    }
    await this.#flights.run("egress", ({ signal: inner }) => this.#ensure(inner), { signal });
    const egress = this.#require();
    this.#watching ??= this.#watch();
    const own = (address: string): boolean => isNeverReachable(address) || egress.closed.has(`${address}/32`);
    return { uplink: { namespace: this.#namespace(egress) }, resolvConf: guestResolvConf(PLAN.resolver, hostText, own) };
  }

  async reconcile({ needed, signal }: { needed: boolean; signal: AbortSignal }): Promise<number> {
    const record = needed ? await this.#readRecord() : null;
    const namespaces = record === null ? null : await openNamespaces(record.holder.member);
    const isHere = namespaces !== null && record?.host === (await hostNamespace());
    const ended = await this.#endProcesses(
      record !== null && isHere ? { leader: record.holder.leader, uplink: record.uplink } : NONE,
      signal,
    );
    if (record === null || namespaces === null) {
      await this.#forget();
      return ended;
    }
    // of those that were ended only the namespaces are left, open in this process: the VMs in them get others
    this.#egress = { holder: record.holder, namespaces, uplink: record.uplink, resolver: null, closed: new Set() };
    this.#watching ??= this.#watch();
    return ended;
  }

  async close(): Promise<void> {
    await this.#stopWatching();
    await this.#endProcesses(NONE, AbortSignal.timeout(NETWORK_LIMITS.toolMs));
    await this.#forget();
  }

  /** Lets go of it: it runs on, as the VMs do. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stopWatching();
    await this.#egress?.namespaces[Symbol.asyncDispose]();
    this.#egress = null;
  }

  async #stopWatching(): Promise<void> {
    this.#closing.abort(new KilnError("CANCELLED", `${PREFIX} is let go`));
    await this.#watching;
  }

  #require(): Egress {
    if (this.#egress === null) throw new KilnError("INTERNAL", `${PREFIX} is not open`);
    return this.#egress;
  }

  /** The descriptors are this process's: their paths lead to these very namespaces. */
  #namespace({ namespaces }: Egress): NetworkNamespace {
    const path = ({ fd }: { fd: number }): string => `/proc/${process.pid}/fd/${fd}`;
    return { network: path(namespaces.network), user: this.#parts.uid === null ? path(namespaces.user) : null };
  }

  /** Whatever of it is missing is made; a step that has nothing to do costs microseconds. */
  async #ensure(signal: AbortSignal): Promise<void> {
    if (this.#egress === null || (await processState(this.#egress.holder.member)) === "dead") await this.#hold(signal);
    await this.#closeHost(signal);
    await this.#connect(signal);
  }

  async #hold(signal: AbortSignal): Promise<void> {
    await requireTools();
    const before = this.#egress;
    await mkdir(this.#parts.directory, { recursive: true, mode: 0o700 });
    const marks = { [MARKER]: this.#parts.directory };
    const { uid, clock } = this.#parts;
    if (before !== null) await this.#endProcesses({ leader: null, uplink: before.uplink }, signal);
    const holder = await startHolder({ uid, marks, mac: this.#mac, into: before?.namespaces ?? null }, { clock, signal });
    const namespaces = before?.namespaces ?? (await openNamespaces(holder.member));
    if (namespaces === null) throw new KilnError("NETWORK_UNAVAILABLE", `the process that holds ${PREFIX} has ended`);
    this.#egress = { ...(before ?? { uplink: null, resolver: null, closed: new Set() }), holder, namespaces };
    await this.#writeRecord();
  }

  /** Also what has come while nobody followed the host. */
  async #closeHost(signal: AbortSignal): Promise<void> {
    const egress = this.#require();
    const prefixes = parseLocalPrefixes(await readFile("/proc/net/fib_trie", "latin1"));
    const [come, gone] = [prefixes.difference(egress.closed), egress.closed.difference(prefixes)];
    if (come.size > 0) await this.#ip(closeHostCommands(come), { signal });
    // the one who follows the host has been faster most times
    if (gone.size > 0) await this.#ip(openHostCommands(gone), { signal, force: true });
    egress.closed = prefixes;
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const egress = this.#require();
    const resolver = hostResolvers(await readHostResolvConf())[0] ?? null;
    // one that runs and was never set up, because a daemon died over it, leads nowhere
    const isUp = egress.uplink !== null && (await processState(egress.uplink)) === "alive" && (await leadsOut(egress.holder));
    egress.resolver ??= isUp ? resolver : null;
    if (isUp && egress.resolver === resolver) return;
    const { clock, uid, directory } = this.#parts;
    if (egress.uplink !== null) await endProcess(egress.uplink, { clock, signal });
    const host = parseDefaultInterface(await readFile("/proc/net/route", "latin1")) === null ? anyInterface() : null;
    egress.uplink = null;
    egress.resolver = null;
    if (host === "none") return; // where the host leads nowhere, its guests do not either, until it does
    const plan = { uid, marks: { [MARKER]: directory }, mac: this.#mac, member: egress.holder.member, host, directory };
    const started = await startUplink(plan, { clock, signal });
    egress.uplink = started.identity;
    await this.#writeRecord();
    await this.#ip(uplinkCommands(this.#mac), { signal });
    egress.resolver = resolver;
  }

  /** Runs ip(8) in the namespace. */
  async #ip(commands: readonly string[], { signal, force = false }: { signal: AbortSignal; force?: boolean }): Promise<void> {
    const [tool, ...args] = [...enterArgv(this.#namespace(this.#require())), "ip", ...(force ? ["-force"] : []), "-batch", "-"];
    const stdin = new TextEncoder().encode(`${commands.join("\n")}\n`);
    try {
      await runTool(tool, args, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(NETWORK_LIMITS.toolMs)]),
        env: { PATH: TOOL_PATH },
        stdin,
      });
    } catch (cause) {
      signal.throwIfAborted();
      if (!force) throw new KilnError("NETWORK_UNAVAILABLE", `${PREFIX} could not be set up: ${asKilnError(cause).message}`, { cause });
    }
  }

  /** Repairs it while this daemon runs: guests find their way out again. */
  async #watch(): Promise<void> {
    const { signal } = this.#closing;
    let pauseMs: number = NETWORK_LIMITS.watchMs;
    while (!signal.aborted) {
      try {
        await this.#parts.clock.sleep(pauseMs, { signal });
        await this.#flights.run("egress", ({ signal: inner }) => this.#ensure(inner), { signal });
        pauseMs = NETWORK_LIMITS.watchMs;
      } catch (error) {
        if (signal.aborted) return;
        pauseMs = NETWORK_LIMITS.repairPauseMs;
        this.#parts.journal.warn({ error: asKilnError(error).message }, `${PREFIX} could not be repaired; it is tried again`);
      }
    }
  }

  /** Ends the home's processes but those of `kept`. Returns how many. */
  async #endProcesses(kept: Kept, signal: AbortSignal): Promise<number> {
    const { directory, clock, uid } = this.#parts;
    const found = await findNetworkProcesses({ directory, mac: this.#mac, uid: uid ?? process.getuid?.() ?? -1 });
    const isKept = ({ pid, group }: { pid: number; group: number }): boolean => group === kept.leader?.pid || pid === kept.uplink?.pid;
    const strays = found.filter((one) => !isKept({ pid: one.identity.pid, group: one.group }));
    const ended = await Promise.all(strays.map((one) => endProcess(one.identity, { clock, signal })));
    return ended.filter(Boolean).length;
  }

  async #forget(): Promise<void> {
    await this.#egress?.namespaces[Symbol.asyncDispose]();
    this.#egress = null;
    await rm(this.#parts.directory, { recursive: true, force: true });
  }

  async #readRecord(): Promise<EgressRecord | null> {
    try {
      return egressRecord.parse(JSON.parse(await readFile(this.#recordPath(), "utf8")));
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      this.#parts.journal.warn({ error: String(error) }, `the record of ${PREFIX} cannot be read; it is made anew`);
      return null;
    }
  }

  async #writeRecord(): Promise<void> {
    const { holder, uplink } = this.#require();
    const bytes = JSON.stringify({ holder, uplink, host: await hostNamespace() } satisfies EgressRecord);
    await publishBytes({ target: this.#recordPath(), stagingDir: this.#parts.stagingDir, bytes, ifExists: "replace" });
  }

  #recordPath(): string {
    return join(this.#parts.directory, "egress.json");
  }
}

const leadsOut = async ({ member }: Holder): Promise<boolean> =>
  parseDefaultInterface(await readFile(`/proc/${member.pid}/net/route`, "latin1")) === PLAN.interface;

const hostNamespace = (): Promise<string> => readlink("/proc/self/ns/net");

const readHostResolvConf = async (): Promise<string> => {
  try {
    return (await readFile("/etc/resolv.conf", "utf8")).slice(0, NETWORK_LIMITS.resolvConfBytes);
  } catch (error) {
    if (hasCode(error, "ENOENT", "EACCES")) return "";
    throw error;
  }
};

/** Without a default route pasta wants to be told of an interface, though it sends by the host's routes. */
const anyInterface = (): string => {
  const found = Object.entries(networkInterfaces()).find(([, addresses]) =>
    addresses?.some(({ internal, family }) => !internal && family === "IPv4"),
  );
  return found?.[0] ?? "none";
};

const TOOLS: readonly (readonly [tool: string, debianPackage: string])[] = [
  ["pasta", "passt"],
  ["ip", "iproute2"],
  ["nsenter", "util-linux"],
];

const requireTools = async (): Promise<void> => {
  const missing: (readonly [string, string])[] = [];
  for (const entry of TOOLS) if (!(await isThere(entry[0]))) missing.push(entry);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, debianPackage]) => debianPackage))].join(" ");
  throw new KilnError("NETWORK_UNAVAILABLE", `${PREFIX} needs ${missing.map(([tool]) => tool).join(", ")}, which this host does not have`, {
    hint: `run \`apt-get install ${packages}\`, or start the VM with \`--network none\``,
  });
};

const isThere = async (tool: string): Promise<boolean> => {
  for (const directory of TOOL_PATH.split(":")) {
    try {
      await access(join(directory, tool), constants.X_OK);
      return true;
    } catch (error) {
      if (!hasCode(error, "ENOENT", "ENOTDIR", "EACCES")) throw error;
    }
  }
  return false;
};
