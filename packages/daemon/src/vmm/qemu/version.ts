import { KilnError } from "@kiln/protocol";
import { runTool, ToolError } from "@kiln/std/node";

export const QEMU_BINARY = "qemu-system-x86_64";
/** The oldest QEMU that Kiln was tested with: Debian 12's. */
const NEEDED = [7, 2] as const;

/** "QEMU emulator version 7.2.22 (Debian …)" as "7.2.22"; null where it says something else. */
export const parseQemuVersion = (text: string): string | null => /^QEMU emulator version (\d+\.\d+(?:\.\d+)?)/m.exec(text)?.[1] ?? null;

/** Throws VMM_TOO_OLD with the version found and the version needed (I21). */
export const requireQemuVersion = (version: string): string => {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isEnough = major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1]);
  if (!isEnough) throw new KilnError("VMM_TOO_OLD", `QEMU ${version} is too old: ${NEEDED.join(".")} or newer is needed`);
  return version;
};

/** The version of the QEMU that is installed, new enough or not. Throws VMM_NOT_FOUND, or VMM_FAILED with QEMU's own words. */
export const readQemuVersion = async (binary: string, options: { signal: AbortSignal }): Promise<string> => {
  const said = await askVersion(binary, options);
  const version = parseQemuVersion(said);
  if (version === null) throw new KilnError("VMM_FAILED", `${binary} --version said ${JSON.stringify(said.slice(0, 200))}`);
  return version;
};

const askVersion = async (binary: string, options: { signal: AbortSignal }): Promise<string> => {
  try {
    const { stdout } = await runTool(binary, ["--version"], options);
    return new TextDecoder().decode(stdout);
  } catch (cause) {
    if (!(cause instanceof ToolError)) throw cause;
    if (cause.code === "ENOENT") throw new KilnError("VMM_NOT_FOUND", `${binary} is not installed`, { cause });
    throw new KilnError("VMM_FAILED", `${binary} --version failed`, { cause });
  }
};
