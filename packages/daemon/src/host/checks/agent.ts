import { constants } from "node:fs";
import { access } from "node:fs/promises";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode, runTool, ToolError } from "@kiln/std/node";
import { install, passed, type Surroundings } from "./check.ts";

const NEEDED = "the guest agent, compiled from guest/agent";
const COMPILER = "musl-gcc";
const HEADER = "/usr/include/linux/vm_sockets.h";

/** Where it is missing: whether it can be compiled here. */
export const checkAgent = async (path: string, { host, signal }: { host: Surroundings; signal: AbortSignal }): Promise<DoctorCheck> => {
  if (await isReadable(path)) return passed("agent", path, NEEDED);
  const bad = (found: string, fix: string): DoctorCheck => ({ name: "agent", status: "fail", found, needed: NEEDED, fix });
  const missing = [
    ...((await hasCompiler(signal)) ? [] : [[COMPILER, "musl-tools"] as const]),
    ...((await isReadable(HEADER)) ? [] : [[HEADER, "linux-libc-dev"] as const]),
  ];
  const build = "run `./kiln ps`, which compiles it";
  if (missing.length === 0) return bad(`${path} is not built`, build);
  const [things, packages] = [missing.map(([thing]) => thing).join(" and "), missing.map(([, debianPackage]) => debianPackage).join(" ")];
  return bad(`${path} is not built, and it takes ${things}`, `${install(packages, host)}, then ${build}`);
};

const isReadable = async (path: string): Promise<boolean> => {
  try {
    await access(path, constants.R_OK);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT", "EACCES", "ENOTDIR")) return false;
    throw error;
  }
};

const hasCompiler = async (signal: AbortSignal): Promise<boolean> => {
  try {
    await runTool(COMPILER, ["--version"], { signal });
    return true;
  } catch (error) {
    if (error instanceof ToolError) return false;
    throw error;
  }
};
