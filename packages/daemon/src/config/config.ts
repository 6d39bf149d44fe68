import { DEFAULTS, KilnError, LIMITS } from "@kiln/protocol";

/** What a daemon keeps ready of one shape. */
export interface PoolShape {
  readonly count: number;
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** Everything the daemon is told at its start; frozen, and handed down from main. */
export interface Config {
  readonly home: string;
  /** Set by `--driver`; "fake" runs no guests and is for tests. */
  readonly driver: "qemu" | "fake";
  /** Rootfs that are built at once. A build is one core's work, and takes memory by its entries. */
  readonly buildsLimit: number;
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
  /** What is kept ready: guests that are restored and wait. */
  readonly pool: readonly PoolShape[];
  /** How often every artifact is read in full, and how fast; null: never. */
  readonly scrub: { readonly everyMs: number; readonly bytesPerSecond: number } | null;
  /** What images may come to, where it is not the builder's own limit. */
  readonly rootfsLimits: RootfsLimitSettings;
  /** From request to the agent's first answer. A cold boot under TCG takes 1.5 s alone on its core. */
  readonly bootTimeoutMs: number;
}

export type RootfsLimitSettings = Readonly<Partial<Record<keyof typeof ROOTFS_LIMIT_NAMES, number>>>;

/** Documented in docs/hostile-input.md. */
const ROOTFS_LIMIT_NAMES = {
  maxImageBytes: "KILN_MAX_ROOTFS_BYTES",
  maxEntries: "KILN_MAX_ROOTFS_ENTRIES",
  maxUnpackedBytes: "KILN_MAX_UNPACKED_BYTES",
  maxUnpackRatio: "KILN_MAX_UNPACK_RATIO",
  freeUnpackBytes: "KILN_FREE_UNPACK_BYTES",
} as const;

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

type Setting = "home" | "driver" | "pool";
const SETTINGS: ReadonlyMap<string | undefined, Setting> = new Map([
  ["--home", "home"],
  ["--driver", "driver"],
  ["--pool", "pool"],
]);

const parseArguments = (argv: readonly string[]): Partial<Record<Setting, string>> => {
  const settings: Partial<Record<Setting, string>> = {};
  for (let index = 0; index < argv.length; index += 2) {
    const [flag, value] = [argv[index], argv[index + 1]];
    const setting = SETTINGS.get(flag);
    if (setting === undefined || value === undefined || value === "") {
      throw new KilnError(
        "USAGE",
        `the daemon does not know the argument ${flag}; it takes --home DIR, --driver qemu|fake and --pool N[:CPUSxMEMORY],…`,
      );
    }
    settings[setting] = value;
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

const POOL = /^(?<count>\d{1,3})(?::(?<cpus>\d{1,3})x(?<memory>\d{1,7})(?<unit>[mg]))?$/;
const UNITS: Readonly<Record<string, number>> = { m: 2 ** 20, g: 2 ** 30 };

/** "4" of the default shape, "2:1x256m,1:2x1g" of others. */
const parsePool = (text: string | undefined): readonly PoolShape[] =>
  (text ?? "")
    .split(",")
    .filter((part) => part !== "")
    .map((part) => {
      const { count, cpus, memory, unit } = POOL.exec(part)?.groups ?? {};
      const bytes = memory === undefined ? DEFAULTS.memoryBytes : Number(memory) * (UNITS[unit ?? ""] ?? Number.NaN);
      const shape = { count: Number(count), cpus: Number(cpus ?? DEFAULTS.cpus), memoryBytes: bytes };
      const isFine =
        shape.count > 0 && shape.cpus >= 1 && shape.cpus <= LIMITS.cpus && bytes >= LIMITS.memoryBytesMin && bytes <= LIMITS.memoryBytesMax;
      if (isFine && bytes % LIMITS.memoryStepBytes === 0) return shape;
      throw new KilnError("USAGE", `"${part}" is no part of a pool: it is a number of VMs, or one with its shape, such as 4 or 2:1x256m`);
    });

const SPAN = /^(?<count>[1-9]\d{0,5})(?<unit>[smhd])$/;
const SPANS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const RATE = /^(?<count>[1-9]\d{0,5})(?<unit>[mg])$/;
/** A hundredth of what a core hashes, and a tenth of what a slow disk reads. */
const SCRUB = { every: "1d", rate: "16m" } as const;

/** KILN_SCRUB is an interval such as 12h, or off; KILN_SCRUB_RATE what is read in a second, such as 16m. */
const parseScrub = (env: ConfigInput["env"]): Config["scrub"] => {
  const [every, rate] = [env["KILN_SCRUB"] || SCRUB.every, env["KILN_SCRUB_RATE"] || SCRUB.rate];
  if (every === "off") return null;
  const [span, speed] = [SPAN.exec(every)?.groups, RATE.exec(rate)?.groups];
  if (span === undefined) throw new KilnError("USAGE", `KILN_SCRUB=${every} is neither off nor an interval such as 12h or 1d`);
  if (speed === undefined) throw new KilnError("USAGE", `KILN_SCRUB_RATE=${rate} is no number of bytes in a second such as 16m`);
  return {
    everyMs: Number(span["count"]) * (SPANS[span["unit"] ?? ""] ?? Number.NaN),
    bytesPerSecond: Number(speed["count"]) * (UNITS[speed["unit"] ?? ""] ?? Number.NaN),
  };
};

const parseRootfsLimits = (env: ConfigInput["env"]): RootfsLimitSettings =>
  Object.fromEntries(
    Object.entries(ROOTFS_LIMIT_NAMES)
      .map(([limit, name]) => [limit, parsePositive(name, env[name], 0)] as const)
      .filter(([, value]) => value > 0),
  );

/** Arguments over environment over defaults. Throws USAGE. */
export const parseConfig = (input: ConfigInput): Config => {
  const settings = parseArguments(input.argv);
  const driver = settings.driver ?? input.env["KILN_DRIVER"] ?? "qemu";
  if (driver !== "qemu" && driver !== "fake") throw new KilnError("USAGE", `there is no driver ${driver}; there are qemu and fake`);
  return Object.freeze({
    home: settings.home ?? input.env["KILN_HOME"] ?? input.defaults.home,
    driver,
    buildsLimit: parsePositive("KILN_BUILDS", input.env["KILN_BUILDS"], Math.max(2, input.host.cpus)),
    bootsLimit: parsePositive("KILN_BOOTS", input.env["KILN_BOOTS"], Math.max(2, input.host.cpus)),
    memoryBytes: parsePositive("KILN_MEMORY_BYTES", input.env["KILN_MEMORY_BYTES"], Math.floor(input.host.memoryBytes * MEMORY_SHARE)),
    cpus: parsePositive("KILN_CPUS", input.env["KILN_CPUS"], input.host.cpus * CPU_OVERCOMMIT),
    diskBytes: parsePositive("KILN_DISK_BYTES", input.env["KILN_DISK_BYTES"], 0) || null,
    uidBase: input.host.uid === 0 ? parsePositive("KILN_UID_BASE", input.env["KILN_UID_BASE"], UID_BASE) : null,
    agentPath: input.env["KILN_AGENT"] ?? input.defaults.agentPath,
    helperPath: input.env["KILN_HELPER"] ?? input.defaults.helperPath,
    preboot: parseSwitch("KILN_PREBOOT", input.env["KILN_PREBOOT"], driver === "qemu"),
    pool: parsePool(settings.pool ?? input.env["KILN_POOL"]),
    scrub: parseScrub(input.env),
    rootfsLimits: parseRootfsLimits(input.env),
    bootTimeoutMs: parsePositive("KILN_BOOT_TIMEOUT_MS", input.env["KILN_BOOT_TIMEOUT_MS"], 120_000),
  });
};
