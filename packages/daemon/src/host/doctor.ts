import type { DoctorCheck, DoctorReport } from "@kiln/protocol";
import { checkAgent } from "./checks/agent.ts";
import { passed, type Surroundings, wordsOf } from "./checks/check.ts";
import { checkHome } from "./checks/home.ts";
import { checkIsolation, describeHost } from "./checks/isolation.ts";
import { checkArchitecture, checkMemory, checkNode, checkSpace } from "./checks/machine.ts";
import { checkNetwork } from "./checks/network.ts";
import { checkApt, checkAuthorities, checkTools, findApt } from "./checks/packages.ts";
import { checkVmm, type DriverFinding } from "./checks/vmm.ts";

export type { DriverFinding } from "./checks/vmm.ts";

export interface Examination {
  readonly home: string;
  readonly agentPath: string;
  readonly uid: number;
  /** The uid of the first VM; null where VMMs keep the daemon's. */
  readonly uidBase: number | null;
  readonly probe: (options: { signal: AbortSignal }) => Promise<DriverFinding>;
  /** Reads the registries' settings; null where there are none. Rejects with what is wrong with them. */
  readonly readRegistries: () => Promise<string | null>;
}

/** What the host must have, each with the fix. Looks only: nothing is made, changed or fetched. */
export const examineHost = async (parts: Examination, { signal }: { signal: AbortSignal }): Promise<DoctorReport> => {
  const { home, uid } = parts;
  const { apt, problem } = await findApt({ signal });
  const host: Surroundings = { home, uid, apt };
  const about = { host, signal };
  const looks: readonly (readonly [name: string, look: () => LookResult])[] = [
    ["node", checkNode],
    ["architecture", () => checkArchitecture(process.arch)],
    ["home", () => checkHome(host)],
    ["space", () => checkSpace(home)],
    ["memory", checkMemory],
    ["driver", async () => checkVmm(await parts.probe({ signal }), about)],
    ["apt", () => problem ?? checkApt(host, { signal })],
    ["tools", () => checkTools(host, { signal })],
    ["agent", () => checkAgent(parts.agentPath, about)],
    ["isolation", () => checkIsolation(parts.uidBase, { signal })],
    ["network", () => checkNetwork(parts.uidBase, about)],
    ["registries", () => checkRegistries(parts.readRegistries)],
    ["ca-certificates", () => checkAuthorities(host)],
    ["host", describeHost],
  ];
  const checks = (await Promise.all(looks.map(([name, look]) => guard(name, { look, signal })))).flat();
  return { ok: checks.every((check) => check.status !== "fail"), checks };
};

type LookResult = DoctorCheck | DoctorCheck[] | Promise<DoctorCheck | DoctorCheck[]>;

/** One check that goes wrong hides none of the others. */
const guard = async (
  name: string,
  { look, signal }: { look: () => LookResult; signal: AbortSignal },
): Promise<DoctorCheck | DoctorCheck[]> => {
  try {
    return await look();
  } catch (error) {
    signal.throwIfAborted();
    return { name, status: "fail", found: `it could not be looked at: ${wordsOf(error)}`, needed: null, fix: "mend what the message says" };
  }
};

const checkRegistries = async (read: Examination["readRegistries"]): Promise<DoctorCheck> => {
  const needed = "none: without it registries are reached by their names over TLS";
  try {
    return passed("registries.toml", (await read()) ?? "there is none", needed);
  } catch (error) {
    return { name: "registries.toml", status: "fail", found: wordsOf(error), needed, fix: "correct the line, or remove the file" };
  }
};
