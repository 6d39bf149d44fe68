import { stat } from "node:fs/promises";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode, runTool, ToolError } from "@kiln/std/node";
import { confinedArgv, TOOL_PATH } from "../confined.ts";
import { asRoot, passed, type Surroundings, wordsOf } from "./check.ts";

const NEEDED = "namespaces without privileges and /dev/net/tun, for VMs with a network";
const TUN_DEVICE = "/dev/net/tun";
const ALL_READ_WRITE = 0o006;

/** Makes the namespaces of a network as the daemon does, which a container or a hardened kernel may not allow, and ends them. */
export const checkNetwork = async (
  uidBase: number | null,
  { host, signal }: { host: Surroundings; signal: AbortSignal },
): Promise<DoctorCheck> => {
  const bad = (found: string, fix: string): DoctorCheck => ({ name: "network", status: "fail", found, needed: NEEDED, fix });
  const mode = await modeOf(TUN_DEVICE);
  if (mode === null) return bad(`there is no ${TUN_DEVICE}`, `${asRoot("modprobe tun", host.uid)}; for a container, give it the device`);
  if (uidBase === null && (mode & ALL_READ_WRITE) !== ALL_READ_WRITE) {
    return bad(`${TUN_DEVICE} has mode ${(mode & 0o777).toString(8).padStart(4, "0")}`, asRoot(`chmod 0666 ${TUN_DEVICE}`, host.uid));
  }
  const args = ["--user", "--map-root-user", "--net", "true"];
  const [tool = "", ...rest] = confinedArgv({ command: "unshare", args, uid: uidBase, group: null, environment: {}, inherited: [] });
  try {
    await runTool(tool, rest, { signal, cwd: "/", env: { PATH: TOOL_PATH } });
    return passed("network", "VMs get a namespace of their own, with a way out and none to the host", NEEDED);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return bad(wordsOf(error), "allow unprivileged user namespaces: a kernel setting or a container's profile forbids them");
  }
};

const modeOf = async (path: string): Promise<number | null> => {
  try {
    return (await stat(path)).mode;
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
};
