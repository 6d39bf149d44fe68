import type { DoctorReport } from "@kiln/protocol";
import { createDriver, HOST_REGISTRIES } from "./compose.ts";
import type { Config } from "./config/config.ts";
import { type DriverFinding, examineHost } from "./host/doctor.ts";
import { type HomePaths, homePaths } from "./store/home.ts";
import type { Driver, KernelFiles } from "./vms/driver.port.ts";

/** A boot that decides the accel is given up after seconds; this is for a host that hangs. */
const PROBE_MS = 30_000;

/** What the host has and lacks for a daemon of this configuration. `openKernel` gives a kernel that a boot can be tried with. */
export const examine = (
  { config, driver, openKernel }: { config: Config; driver: Driver; openKernel: () => Promise<KernelFiles | null> },
  options: { signal: AbortSignal },
): Promise<DoctorReport> =>
  examineHost(
    {
      home: config.home,
      agentPath: config.agentPath,
      uid: process.getuid?.() ?? -1,
      uidBase: config.uidBase,
      probe: async ({ signal }): Promise<DriverFinding> => {
        const kernel = await openKernel();
        const report = await driver.probe(kernel, { signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]) });
        return { ...report, tried: kernel !== null && (process.env["KILN_ACCEL"] ?? "auto") === "auto" };
      },
      readRegistries: () => nameRegistries(homePaths(config.home)),
    },
    options,
  );

/** For a home whose daemon does not run, or cannot. Takes no lock, opens no database, makes nothing. */
export const examineWithoutDaemon = (config: Config): Promise<DoctorReport> =>
  examine(
    { config, driver: createDriver(config, homePaths(config.home)), openKernel: () => Promise.resolve(null) },
    { signal: AbortSignal.timeout(2 * PROBE_MS) },
  );

const nameRegistries = async (paths: HomePaths): Promise<string | null> => {
  const { loadRegistryConfig } = await import("./registry/registry-config.ts");
  const names = [...(await loadRegistryConfig([HOST_REGISTRIES, paths.registries]).read()).keys()];
  return names.length === 0 ? null : `settings of ${names.join(", ")}`;
};
