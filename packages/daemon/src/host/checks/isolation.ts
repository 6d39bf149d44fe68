import { readFile, statfs } from "node:fs/promises";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode, runTool, ToolError } from "@kiln/std/node";
import { confinedArgv, TOOL_PATH } from "../confined.ts";
import { passed, wordsOf } from "./check.ts";

const NEEDED = "root, so that each VMM gets a uid of its own and no privilege";

/** Starts a program as a VMM is started, which a container or a user namespace may not allow. */
export const checkIsolation = async (uidBase: number | null, { signal }: { signal: AbortSignal }): Promise<DoctorCheck> => {
  const [tool = "", ...args] = confinedArgv({ command: "true", args: [], uid: uidBase, group: null, environment: {}, inherited: [] });
  try {
    await runTool(tool, args, { signal, cwd: "/", env: { PATH: TOOL_PATH } });
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return { name: "isolation", status: "fail", found: wordsOf(error), needed: NEEDED, fix: adviseOn(uidBase) };
  }
  if (uidBase !== null) return passed("isolation", `each VMM runs under a uid of its own, from ${uidBase} on`, NEEDED);
  return {
    name: "isolation",
    status: "warn",
    found: "every VMM runs under your own uid",
    needed: NEEDED,
    fix: "run the daemon as root where VMs must be walled off from each other's VMM",
  };
};

const adviseOn = (uidBase: number | null): string =>
  uidBase === null
    ? "allow this user's processes to be limited: a container may forbid it"
    : "let KILN_UID_BASE be the first of a range of uids that this host or container has (see /proc/self/uid_map)";

/** From proc(5): the first id inside, the first outside, how many. */
const IDENTITY_MAP = /^\s*0\s+0\s+4294967295\s*$/;
/** statfs(2): the types of the two hierarchies' mounts. */
const CGROUP2_MAGIC = 0x63677270;
const TMPFS_MAGIC = 0x01021994;

/** What says which kind of host it is, and hinders nothing. */
export const describeHost = async (): Promise<DoctorCheck[]> => {
  const map = await readFile("/proc/self/uid_map", "latin1");
  const namespace = IDENTITY_MAP.test(map) ? "the host's own uids" : `a user namespace (${map.trim().replace(/\s+/g, " ")})`;
  return [
    passed("user-namespace", namespace, "none: for your information"),
    passed("cgroups", await describeCgroups(), "none: for your information, a VMM is bounded by prlimit"),
  ];
};

const describeCgroups = async (): Promise<string> => {
  try {
    const { type } = await statfs("/sys/fs/cgroup");
    return type === CGROUP2_MAGIC ? "v2" : type === TMPFS_MAGIC ? "v1" : "not mounted";
  } catch (error) {
    if (hasCode(error, "ENOENT", "EACCES")) return "not mounted";
    throw error;
  }
};
