import { access } from "node:fs/promises";
import { join } from "node:path";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode, runTool, ToolError } from "@kiln/std/node";
import { TOOL_PATH } from "../confined.ts";
import { firstLine, install, passed, type Surroundings, wordsOf } from "./check.ts";
import { findKvmDevice, type KvmDevice } from "./kvm-device.ts";

/** What a driver says of itself. */
export interface DriverFinding {
  readonly name: string;
  readonly version: string | null;
  readonly accel: string | null;
  readonly reason: string;
  /** Whether a boot decided the accel: not without a kernel to boot, nor where the user has decided. */
  readonly tried: boolean;
}

const QEMU = "qemu-system-x86_64";
const OLDEST = [7, 2] as const;
const NEEDED = `QEMU ${OLDEST.join(".")} or newer`;
/** The BIOS, and the program in it that starts a kernel without a boot loader. */
const FIRMWARE: readonly (readonly [file: string, debianPackage: string])[] = [
  ["bios-256k.bin", "seabios"],
  ["pvh.bin", "qemu-system-data"],
];

export const checkVmm = async (
  finding: DriverFinding,
  { host, signal }: { host: Surroundings; signal: AbortSignal },
): Promise<DoctorCheck[]> => {
  if (finding.name !== "qemu") return [passed(finding.name, finding.version ?? finding.reason, null), judgeAccel(finding, null)];
  const vmm = judgeQemu(finding, host) ?? (await checkPlace(finding.version ?? "", signal));
  const rest = vmm.status === "pass" ? [await checkFirmware(host, signal)] : [];
  return [vmm, ...rest, judgeAccel(finding, await findKvmDevice(host.uid))];
};

/** null where the version will do. */
export const judgeQemu = ({ version, reason }: Pick<DriverFinding, "version" | "reason">, host: Surroundings): DoctorCheck | null => {
  const bad = (found: string, fix: string): DoctorCheck => ({ name: "qemu", status: "fail", found, needed: NEEDED, fix });
  if (version === null) return bad(firstLine(reason), install("qemu-system-x86", host));
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return null;
  return bad(version, "upgrade the host to Debian 12 or newer, or install a newer QEMU below /usr/local");
};

/** The daemon's own PATH may find a QEMU that confined programs do not. */
const checkPlace = async (version: string, signal: AbortSignal): Promise<DoctorCheck> => {
  try {
    await runTool(QEMU, ["--version"], { signal, env: { PATH: TOOL_PATH } });
    return passed("qemu", version, NEEDED);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    const found = `${version} is on the daemon's PATH, but VMMs are started from ${TOOL_PATH}: ${wordsOf(error)}`;
    return { name: "qemu", status: "fail", found, needed: NEEDED, fix: `ln -s "$(command -v ${QEMU})" /usr/local/bin/` };
  }
};

const checkFirmware = async (host: Surroundings, signal: AbortSignal): Promise<DoctorCheck> => {
  const { stdout } = await runTool(QEMU, ["-L", "help"], { signal, env: { PATH: TOOL_PATH } });
  const directories = new TextDecoder()
    .decode(stdout)
    .split("\n")
    .filter((line) => line.startsWith("/"));
  const missing: (readonly [string, string])[] = [];
  for (const entry of FIRMWARE) if (!(await isInOneOf(directories, entry[0]))) missing.push(entry);
  const needed = "what QEMU starts a guest with";
  const files = (entries: readonly (readonly [string, string])[]): string => entries.map(([file]) => file).join(", ");
  if (missing.length === 0) return passed("firmware", files(FIRMWARE), needed);
  const fix = install(missing.map(([, debianPackage]) => debianPackage).join(" "), host);
  return { name: "firmware", status: "fail", found: `QEMU has no ${files(missing)} in ${directories.join(", ")}`, needed, fix };
};

const isInOneOf = async (directories: readonly string[], file: string): Promise<boolean> => {
  for (const directory of directories) {
    try {
      await access(join(directory, file));
      return true;
    } catch (error) {
      if (!hasCode(error, "ENOENT", "ENOTDIR", "EACCES")) throw error;
    }
  }
  return false;
};

/** `device` is null for a driver that does without KVM. */
export const judgeAccel = (finding: DriverFinding, device: KvmDevice | null): DoctorCheck => {
  const { accel, tried, version } = finding;
  const reason = firstLine(finding.reason);
  const check = { name: "accel", needed: "kvm for full speed; tcg works everywhere, slower" } as const;
  if (accel === "kvm" && device?.usable === false) {
    return { ...check, status: "fail", found: `${accel}: ${reason}, but ${device.found}`, fix: `unset KILN_ACCEL, or ${device.fix}` };
  }
  if (accel === "kvm" || device === null) return { ...check, status: "pass", found: `${accel ?? "none"}: ${reason}`, fix: null };
  if (!device.usable) return { ...check, status: "warn", found: `${accel ?? "tcg"}: ${device.found}`, fix: device.fix };
  if (version === null) return { ...check, status: "pass", found: "/dev/kvm opens; a guest is tried on it once there is QEMU", fix: null };
  if (accel === null) return { ...check, status: "fail", found: reason, fix: "mend what else failed here, then look again" };
  if (!tried) return { ...check, status: "pass", found: `${accel}: ${reason}`, fix: null };
  return {
    ...check,
    status: "warn",
    found: `${accel}: ${reason}`,
    fix: "turn on nested virtualisation where this host is a VM itself; else nothing, Kiln goes on without KVM",
  };
};
