import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { type Clock, withDeadline } from "@kiln/std";
import { hasCode, type ProcessIdentity, runTool } from "@kiln/std/node";
import { type ConfinedProcess, spawnConfined, TOOL_PATH } from "../host/confined.ts";
import { endProcess } from "../host/proc.ts";
import { PLAN } from "./address-plan.ts";
import { NETWORK_LIMITS } from "./limits.ts";

export const TUN_DEVICE = "/dev/net/tun";
const TUN_NUMBERS = ["10", "200"] as const;
const ALL_READ_WRITE = 0o006;

export interface UplinkPlan {
  readonly uid: number | null;
  readonly marks: Readonly<Record<string, string>>;
  /** Of the interface in the namespace; also what the process is known by. */
  readonly mac: string;
  /** In whose namespaces the interface is made. */
  readonly member: ProcessIdentity;
  /** An interface of the host where it has no default route to choose by. */
  readonly host: string | null;
  /** Of this adapter's own, below the home. */
  readonly directory: string;
}

/** pasta(1): its interface in the namespace, its sockets on the host; no port of the host leads in, and the gateway is not the host. */
export const pastaArguments = ({ mac, member, host }: Pick<UplinkPlan, "mac" | "member" | "host">): readonly string[] => [
  ...["--foreground", "--quiet", "--ipv4-only", "--no-map-gw"],
  ...["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"],
  ...["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", "--no-netns-quit"],
  ...["--address", PLAN.address, "--netmask", "24", "--gateway", PLAN.gateway, "--mac-addr", PLAN.gatewayMac],
  ...["--dns-forward", PLAN.resolver, "--ns-ifname", PLAN.interface, "--ns-mac-addr", mac],
  ...(host === null ? [] : ["--interface", host]),
  ...["--userns", `/proc/${member.pid}/ns/user`, "--netns", `/proc/${member.pid}/ns/net`],
];

/** Returning means that its interface is in the namespace, still without an address. A failure leaves no process. */
export const startUplink = async (
  plan: UplinkPlan,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<{ identity: ProcessIdentity; ended: Promise<unknown> }> => {
  const device = await tunFor(plan, { signal });
  const confined = await spawnConfined({
    command: "pasta",
    args: pastaArguments(plan),
    ...{ uid: plan.uid, group: null, inherited: [], environment: plan.marks, openFiles: null },
    ...(device === null ? {} : { wrapper: asTun(device) }),
  });
  const said = listen(confined);
  try {
    await withDeadline(NETWORK_LIMITS.uplinkMs, (inner) => awaitInterface(plan.member, { confined, clock, signal: inner }), {
      ...{ clock, signal },
      onTimeout: () => new KilnError("NETWORK_UNAVAILABLE", "pasta was not ready in time"),
    });
  } catch (error) {
    await endProcess(confined.identity, { clock, signal: AbortSignal.timeout(NETWORK_LIMITS.toolMs) });
    await confined.ended;
    signal.throwIfAborted();
    throw new KilnError("NETWORK_UNAVAILABLE", `the uplink of the VMs' network did not come up: ${said() || "pasta ended"}`, {
      cause: error,
    });
  }
  confined.child.unref();
  return { identity: confined.identity, ended: confined.ended };
};

const listen = ({ child }: ConfinedProcess): (() => string) => {
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString("utf8")).slice(-NETWORK_LIMITS.stderrBytes);
  });
  // without a system log it says so with each line
  return () =>
    said
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("Failed to send"))
      .join("; ");
};

const awaitInterface = async (
  member: ProcessIdentity,
  { confined, clock, signal }: { confined: ConfinedProcess; clock: Clock; signal: AbortSignal },
): Promise<void> => {
  let hasEnded = false;
  void confined.ended.then(() => (hasEnded = true));
  while (!(await hasInterface(member))) {
    if (hasEnded) throw new KilnError("NETWORK_UNAVAILABLE", "pasta ended at its start");
    await clock.sleep(NETWORK_LIMITS.lookMs, { signal });
  }
};

const hasInterface = async ({ pid }: ProcessIdentity): Promise<boolean> =>
  (await readFile(`/proc/${pid}/net/dev`, "latin1")).includes(`${PLAN.interface}:`);

/**
 * null where anyone may open the device, or this process is no root. Else a node of it that belongs to the uplink's uid:
 * without udev the kernel leaves the device to root alone.
 */
const tunFor = async ({ uid, directory }: UplinkPlan, { signal }: { signal: AbortSignal }): Promise<string | null> => {
  const { mode } = await statTun();
  if (uid === null || (mode & ALL_READ_WRITE) === ALL_READ_WRITE) return null;
  const node = join(directory, "tun");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await rm(node, { force: true });
  await runTool("mknod", ["--mode=0600", node, "c", ...TUN_NUMBERS], { signal, env: { PATH: TOOL_PATH } });
  await runTool("chown", [`${uid}:${uid}`, node], { signal, env: { PATH: TOOL_PATH } });
  return node;
};

const statTun = async (): Promise<{ mode: number }> => {
  try {
    return await stat(TUN_DEVICE);
  } catch (cause) {
    if (!hasCode(cause, "ENOENT")) throw cause;
    throw new KilnError("NETWORK_UNAVAILABLE", `the VMs' network needs ${TUN_DEVICE}, which this host does not have`, {
      ...{ cause, hint: "run `modprobe tun`, or start the VM with `--network none`" },
    });
  }
};

/** In a mount namespace of its own, so that nobody else sees another device. */
const asTun = (node: string): readonly string[] => [
  ...["unshare", "--mount", "--propagation=private", "--", "sh", "-c", `mount --bind "$0" ${TUN_DEVICE} && exec "$@"`, node],
];
