import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";
import type { DoctorCheck, DoctorReport } from "@kiln/protocol";
import { runTool } from "@kiln/std/node";

const ROOM_BYTES = 2 * 2 ** 30;

interface Tool {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly fix: string;
  readonly needed: string;
}

const TOOLS: readonly Tool[] = [
  { name: "apt", command: "apt-get", args: ["--version"], needed: "for deb: images and the kernel", fix: "use a Debian or Ubuntu host" },
  { name: "dpkg-deb", command: "dpkg-deb", args: ["--version"], needed: "for deb: images and the kernel", fix: "apt-get install dpkg" },
  {
    name: "setpriv",
    command: "setpriv",
    args: ["--version"],
    needed: "to run the VMM without privileges",
    fix: "apt-get install util-linux",
  },
  { name: "prlimit", command: "prlimit", args: ["--version"], needed: "to bound the VMM", fix: "apt-get install util-linux" },
];

export interface DriverFinding {
  readonly name: string;
  readonly version: string | null;
  readonly accel: string | null;
  readonly reason: string;
}

/** What the host must have, each with the fix. `probe` says what the driver found. */
export const examineHost = async (
  parts: { home: string; agentPath: string; uid: number; probe: () => Promise<DriverFinding> },
  options: { signal: AbortSignal },
): Promise<DoctorReport> => {
  const checks = [
    checkNode(),
    await checkDriver(parts.probe),
    ...(await Promise.all(TOOLS.map((tool) => checkTool(tool, options.signal)))),
    await checkAgent(parts.agentPath),
    await checkRoom(parts.home),
    checkUser(parts.uid),
  ].flat();
  return { ok: checks.every((check) => check.status !== "fail"), checks };
};

const checkNode = (): DoctorCheck => {
  const major = Number(process.versions.node.split(".")[0]);
  return {
    name: "node",
    status: major >= 24 ? "pass" : "fail",
    found: process.version,
    needed: "24 or newer",
    fix: major >= 24 ? null : "run the checkout's ./kiln, which brings its own",
  };
};

const checkDriver = async (probe: () => Promise<DriverFinding>): Promise<DoctorCheck[]> => {
  const report = await probe().catch((error: unknown): DriverFinding => {
    return { name: "driver", version: null, accel: null, reason: error instanceof Error ? error.message : String(error) };
  });
  const installed = report.version !== null;
  const vmm: DoctorCheck = {
    name: report.name,
    status: installed && report.accel !== null ? "pass" : "fail",
    found: report.version,
    needed: report.name === "qemu" ? "7.2 or newer" : null,
    fix: installed ? null : "apt-get install qemu-system-x86",
  };
  const accel: DoctorCheck = {
    name: "accel",
    status: report.accel === "kvm" ? "pass" : report.accel === null ? "fail" : "warn",
    found: `${report.accel ?? "none"}: ${report.reason}`,
    needed: "kvm for full speed; tcg works everywhere",
    fix: report.accel === "kvm" ? null : "use a host with a working /dev/kvm",
  };
  return [vmm, accel];
};

const checkTool = async (tool: Tool, signal: AbortSignal): Promise<DoctorCheck> => {
  try {
    const { stdout } = await runTool(tool.command, tool.args, { signal });
    const found = Buffer.from(stdout).toString("utf8").split("\n")[0] ?? "";
    return { name: tool.name, status: "pass", found, needed: tool.needed, fix: null };
  } catch (error) {
    signal.throwIfAborted();
    return { name: tool.name, status: "fail", found: error instanceof Error ? error.message : null, needed: tool.needed, fix: tool.fix };
  }
};

const checkAgent = async (path: string): Promise<DoctorCheck> => {
  const found = await access(path, constants.R_OK).then(
    () => path,
    () => null,
  );
  const fix = found === null ? "run ./kiln once: it compiles the agent" : null;
  return { name: "agent", status: found === null ? "fail" : "pass", found, needed: "the compiled guest agent", fix };
};

const checkRoom = async (home: string): Promise<DoctorCheck> => {
  const { bavail, bsize } = await statfs(home);
  const free = bavail * bsize;
  const status = free >= ROOM_BYTES ? "pass" : "warn";
  const found = `${(free / 2 ** 30).toFixed(1)} GiB free in ${home}`;
  return {
    name: "space",
    status,
    found,
    needed: "2 GiB free for a kernel, an image and a few disks",
    fix: status === "pass" ? null : "make room, or choose another --home",
  };
};

const checkUser = (uid: number): DoctorCheck => ({
  name: "isolation",
  status: uid === 0 ? "pass" : "warn",
  found: uid === 0 ? "each VMM runs under a uid of its own" : `every VMM runs under your uid ${uid}`,
  needed: "root, so that each VMM gets a uid of its own",
  fix: uid === 0 ? null : "run the daemon as root where VMs must be walled off from each other's VMM",
});
