import { access, readdir } from "node:fs/promises";
import type { DoctorCheck } from "@kiln/protocol";
import { hasCode, runTool, ToolError } from "@kiln/std/node";
import { TOOL_PATH } from "../confined.ts";
import { asRoot, install, passed, type Surroundings, wordsOf } from "./check.ts";

interface Tool {
  readonly command: string;
  readonly needed: string;
  readonly debianPackage: string;
  /** Whether nothing works without it. */
  readonly isVital: boolean;
  /** The PATH that it is looked for in, where it is not the daemon's own. */
  readonly path?: string;
  /** By default "--version". */
  readonly versionOption?: string;
}

const TOOLS: readonly Tool[] = [
  { command: "dpkg-deb", needed: "unpacks the kernel and deb: images", debianPackage: "dpkg", isVital: true },
  { command: "setpriv", needed: "takes a VMM's privileges away", debianPackage: "util-linux", isVital: true, path: TOOL_PATH },
  { command: "prlimit", needed: "bounds what a VMM uses", debianPackage: "util-linux", isVital: true, path: TOOL_PATH },
  { command: "ip", needed: "walls off the VMs' network", debianPackage: "iproute2", isVital: true, path: TOOL_PATH, versionOption: "-V" },
  {
    command: "pasta",
    needed: "leads VMs out; without it only `--network none` works",
    debianPackage: "passt",
    isVital: true,
    path: TOOL_PATH,
  },
  { command: "xz", needed: "unpacks the modules of some kernels", debianPackage: "xz-utils", isVital: false },
  { command: "zstd", needed: "unpacks the modules of some kernels", debianPackage: "zstd", isVital: false },
];

export const checkTools = async (host: Surroundings, options: { signal: AbortSignal }): Promise<DoctorCheck[]> =>
  Promise.all(TOOLS.map((tool) => checkTool(tool, { host, ...options })));

/** The first line that it prints of itself, or why it does not. */
const askVersion = async (
  command: string,
  { signal, path, versionOption = "--version" }: Pick<Tool, "path" | "versionOption"> & { signal: AbortSignal },
): Promise<string> => {
  const env = path === undefined ? process.env : { ...process.env, PATH: path };
  const { stdout } = await runTool(command, [versionOption], { signal, env: { ...env, LC_ALL: "C" } });
  const [line = ""] = new TextDecoder().decode(stdout).split("\n");
  return /\d+(?:\.\d+)+[\w.~+-]*/.exec(line)?.[0] ?? line;
};

const checkTool = async (tool: Tool, { host, signal }: { host: Surroundings; signal: AbortSignal }): Promise<DoctorCheck> => {
  const { command, needed } = tool;
  try {
    return passed(command, await askVersion(command, { ...tool, signal }), needed);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    const fix = install(tool.debianPackage, host);
    return { name: command, status: tool.isVital ? "fail" : "warn", found: wordsOf(error), needed, fix };
  }
};

const APT_NEEDED = "brings the guests' kernel, and deb: images";
const KERNEL_PACKAGE = "linux-image-cloud-amd64";

export type AptFinding =
  | { readonly apt: "without lists" | "ready"; readonly problem: null }
  | { readonly apt: "none"; readonly problem: DoctorCheck };

export const findApt = async (options: { signal: AbortSignal }): Promise<AptFinding> => {
  try {
    for (const command of ["apt-get", "apt-cache", "apt-config"]) await askVersion(command, options);
    return { apt: (await hasLists(options)) ? "ready" : "without lists", problem: null };
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    const fix = "run Kiln on Debian 12, or in a Debian container or VM on this host: Kiln builds its kernel set from Debian's package";
    return { apt: "none", problem: { name: "apt", status: "fail", found: wordsOf(error), needed: APT_NEEDED, fix } };
  }
};

/** Whether apt, which is there, knows the package that the guests' kernel is taken from. */
export const checkApt = async ({ uid, apt }: Surroundings, options: { signal: AbortSignal }): Promise<DoctorCheck> => {
  const bad = (found: string, fix: string): DoctorCheck => ({ name: "apt", status: "fail", found, needed: APT_NEEDED, fix });
  if (apt === "without lists") {
    if (uid === 0) return passed("apt", "no package lists yet; the first use fetches them", APT_NEEDED);
    return bad("apt has no package lists, and only root can fetch them", asRoot("apt-get update", uid));
  }
  const version = await findKernelVersion(options);
  if (version !== null) return passed("apt", `${await askVersion("apt-get", options)}, ${KERNEL_PACKAGE} ${version}`, APT_NEEDED);
  return bad(
    `apt knows no package ${KERNEL_PACKAGE}`,
    `${asRoot("apt-get update", uid)}; if that does not help, this distribution does not have it, and Debian 12 does`,
  );
};

/** apt-cache fails for a package that it does not know. */
const findKernelVersion = async ({ signal }: { signal: AbortSignal }): Promise<string | null> => {
  try {
    const { stdout } = await runTool("apt-cache", ["--no-all-versions", "show", KERNEL_PACKAGE], { signal });
    return /^Version: (\S+)/m.exec(new TextDecoder().decode(stdout))?.[1] ?? null;
  } catch (error) {
    if (error instanceof ToolError) return null;
    throw error;
  }
};

const hasLists = async ({ signal }: { signal: AbortSignal }): Promise<boolean> => {
  const { stdout } = await runTool("apt-config", ["shell", "LISTS", "Dir::State::lists/d"], { signal });
  const directory = /^LISTS='(.*)'$/m.exec(new TextDecoder().decode(stdout))?.[1];
  if (directory === undefined) return false;
  try {
    return (await readdir(directory)).some((name) => name.includes("_Packages"));
  } catch (error) {
    if (hasCode(error, "ENOENT", "EACCES")) return false;
    throw error;
  }
};

const AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt";

/** Node has roots of its own, but not those that this host's owner added. */
export const checkAuthorities = async (host: Surroundings): Promise<DoctorCheck> => {
  const needed = "this host's certificate authorities, for registries and apt";
  try {
    await access(AUTHORITIES);
    return passed("ca-certificates", AUTHORITIES, needed);
  } catch (error) {
    if (!hasCode(error, "ENOENT", "EACCES", "ENOTDIR")) throw error;
    const fix = install("ca-certificates", host);
    return { name: "ca-certificates", status: "warn", found: `there is no ${AUTHORITIES}`, needed, fix };
  }
};
