import { KilnError } from "@kiln/protocol";

/** Everything the daemon is told at its start; frozen, and handed down from main. */
export interface Config {
  readonly home: string;
  /** Set by `--driver`; "fake" runs no guests and is for tests. */
  readonly driver: "qemu" | "fake";
  /** Boots that run at once. A boot is one core's work. */
  readonly bootsLimit: number;
  /** Memory that VMs may reserve together. */
  readonly memoryBytes: number;
  /** CPUs that VMs may reserve together: more than there are, since most of them wait. */
  readonly cpus: number;
  /** What the disks of all VMs may grow to together; null: DISK_OVERCOMMIT times the home's file system. */
  readonly diskBytes: number | null;
  /** VM n, from 1 on, runs as uid and gid uidBase + n, and what leads VMs out as uidBase; null where the daemon is not root. */
  readonly uidBase: number | null;
  /** The static agent that becomes /init of every initramfs. */
  readonly agentPath: string;
  /** The daemon's helper for descriptors, a static binary. */
  readonly helperPath: string;
  /** Whether VMs start from pre-boot snapshots, and what is missing is built behind a cold boot. */
  readonly preboot: boolean;
  /** From request to the agent's first answer. A cold boot under TCG takes 1.5 s alone on its core. */
  readonly bootTimeoutMs: number;
}

export interface ConfigInput {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly host: { readonly cpus: number; readonly memoryBytes: number; readonly uid: number };
  readonly defaults: { readonly home: string; readonly agentPath: string; readonly helperPath: string };
}

/** Above every range that distributions give to users, services and containers (systemd's UIDS-GIDS.md). */
const UID_BASE = 0x6000_0000;
/** The host keeps an eighth of its memory. */
const MEMORY_SHARE = 7 / 8;

const CPU_OVERCOMMIT = 32;
/** Disks are sparse, and most stay nearly empty. */
export const DISK_OVERCOMMIT = 16;

type Setting = "home" | "driver";

const parseArguments = (argv: readonly string[]): Partial<Record<Setting, string>> => {
  const settings: Partial<Record<Setting, string>> = {};
  for (let index = 0; index < argv.length; index += 2) {
    const [flag, value] = [argv[index], argv[index + 1]];
    if ((flag !== "--home" && flag !== "--driver") || value === undefined || value === "") {
      throw new KilnError("USAGE", `the daemon does not know the argument ${flag}; it takes --home DIR and --driver qemu|fake`);
    }
    settings[flag === "--home" ? "home" : "driver"] = value;
  }
  return settings;
};

const parsePositive = (name: string, text: string | undefined, fallback: number): number => {
  if (text === undefined || text === "") return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0) throw new KilnError("USAGE", `${name}=${text} is not a positive whole number`);
  return value;
};

const parseSwitch = (name: string, text: string | undefined, fallback: boolean): boolean => {
  if (text === undefined || text === "") return fallback;
  if (text === "on" || text === "off") return text === "on";
  throw new KilnError("USAGE", `${name}=${text} is neither on nor off`);
};

/** Arguments over environment over defaults. Throws USAGE. */
export const parseConfig = (input: ConfigInput): Config => {
  const settings = parseArguments(input.argv);
  const driver = settings.driver ?? input.env["KILN_DRIVER"] ?? "qemu";
  if (driver !== "qemu" && driver !== "fake") throw new KilnError("USAGE", `there is no driver ${driver}; there are qemu and fake`);
  return Object.freeze({
    home: settings.home ?? input.env["KILN_HOME"] ?? input.defaults.home,
    driver,
    bootsLimit: parsePositive("KILN_BOOTS", input.env["KILN_BOOTS"], Math.max(2, input.host.cpus)),
    memoryBytes: parsePositive("KILN_MEMORY_BYTES", input.env["KILN_MEMORY_BYTES"], Math.floor(input.host.memoryBytes * MEMORY_SHARE)),
    cpus: parsePositive("KILN_CPUS", input.env["KILN_CPUS"], input.host.cpus * CPU_OVERCOMMIT),
    diskBytes: parsePositive("KILN_DISK_BYTES", input.env["KILN_DISK_BYTES"], 0) || null,
    uidBase: input.host.uid === 0 ? parsePositive("KILN_UID_BASE", input.env["KILN_UID_BASE"], UID_BASE) : null,
    agentPath: input.env["KILN_AGENT"] ?? input.defaults.agentPath,
    helperPath: input.env["KILN_HELPER"] ?? input.defaults.helperPath,
    preboot: parseSwitch("KILN_PREBOOT", input.env["KILN_PREBOOT"], driver === "qemu"),
    bootTimeoutMs: parsePositive("KILN_BOOT_TIMEOUT_MS", input.env["KILN_BOOT_TIMEOUT_MS"], 120_000),
  });
};
