import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { type Clock, retry, SingleFlight } from "@kiln/std";
import { runTool, ToolError } from "@kiln/std/node";

export interface PackageName {
  /** Debian policy 5.6.1: begins with a letter or digit, so that it is never an option. */
  readonly name: string;
  readonly version: string | null;
}

/** One version of a package for one architecture. */
export interface ExactPackage {
  readonly name: string;
  readonly version: string;
  /** "all" for packages that are the same everywhere. */
  readonly architecture: string;
}

/** What apt's signed lists say of a package. */
export interface PackageFacts extends ExactPackage {
  /** Of the .deb, 64 hex digits. */
  readonly sha256: string;
  /** Relations as written, for example `linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)`. */
  readonly depends: readonly string[];
}

export interface DownloadedPackage extends ExactPackage {
  readonly path: string;
}

const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;
const PACKAGE_VERSION = /^[A-Za-z0-9][A-Za-z0-9.+:~-]*$/;
/** Debian makes point releases every other month and security updates daily. */
const LISTS_AGE_MS = 24 * 3_600_000;
/** Lists that were fetched this short ago are not the reason that something is not found. */
const REFRESH_PAUSE_MS = 60_000;
/** Another process that updates the lists is done in this time or is stuck. */
const LOCK_ATTEMPTS = 8;

/**
 * The host's apt, used without touching the host's packages: it reads the lists, resolves against an empty system,
 * and downloads into a directory of the caller's. Hashes and signatures are checked by apt. Safe to use many times at once.
 */
export class Apt {
  readonly #stagingDir: string;
  readonly #clock: Clock;
  readonly #refreshes = new SingleFlight<"lists", void>();
  #refreshedAtMs = -Infinity;

  constructor(options: { readonly stagingDir: string; readonly clock: Clock }) {
    this.#stagingDir = options.stagingDir;
    this.#clock = options.clock;
  }

  /** A private cache of apt; what is downloaded lies in it until it is disposed of. Throws HOST_TOOL_MISSING, PACKAGE_FETCH_FAILED. */
  async open(options: { signal: AbortSignal }): Promise<AptSession> {
    await mkdir(this.#stagingDir, { recursive: true, mode: 0o700 });
    const directory = await mkdtemp(join(this.#stagingDir, `${process.pid}.apt-`));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(directory, { recursive: true, force: true }));
    await mkdir(join(directory, "cache", "archives", "partial"), { recursive: true });
    const { lists, architecture } = await readAptSettings(options.signal);
    const hasLists = (await readdir(lists)).some((name) => name.includes("_Packages"));
    if (!hasLists) await this.refresh(options);
    undo.move();
    return new AptSession(this, { directory, architecture });
  }

  /** Runs `action`; if that fails and newer lists may help, once more after fetching them. */
  async withFreshLists<Result>(action: () => Promise<Result>, options: { signal: AbortSignal }): Promise<Result> {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof KilnError) || !(await this.#mayRefreshHelp(error, options.signal))) throw error;
      await this.#refreshFor(error, options);
    }
    return action();
  }

  /** `apt-get update`, one for all who want it. Throws PACKAGE_FETCH_FAILED where it fails or takes rights that we lack. */
  async refresh(options: { signal: AbortSignal }): Promise<void> {
    if (process.getuid?.() !== 0) {
      throw new KilnError("PACKAGE_FETCH_FAILED", "apt's package lists are missing or old, and only root can fetch them", {
        hint: "run `sudo apt-get update`, then the command again",
      });
    }
    const attempt = async (signal: AbortSignal): Promise<void> => {
      await runApt("apt-get", ["-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any", "-qq", "update"], { signal });
    };
    await this.#refreshes.run(
      "lists",
      async ({ signal }) => {
        const shouldRetry = (error: unknown): boolean =>
          error instanceof KilnError && /could not get lock|unable to lock/i.test(stderrOf(error));
        await retry(() => attempt(signal), { attempts: LOCK_ATTEMPTS, baseMs: 500, maxMs: 8_000, clock: this.#clock, shouldRetry, signal });
        this.#refreshedAtMs = this.#clock.monotonicMs();
      },
      options,
    );
  }

  /** Where the lists cannot be fetched, what was found before is still the answer. */
  async #refreshFor(error: KilnError, options: { signal: AbortSignal }): Promise<void> {
    try {
      await this.refresh(options);
    } catch (refreshError) {
      if (!(refreshError instanceof KilnError) || options.signal.aborted) throw refreshError;
      throw new KilnError(error.code, error.message, {
        cause: new AggregateError([error, refreshError]),
        object: error.object ?? undefined,
        hint: error.hint,
      });
    }
  }

  async #mayRefreshHelp(error: KilnError, signal: AbortSignal): Promise<boolean> {
    if (process.getuid?.() !== 0 || this.#clock.monotonicMs() - this.#refreshedAtMs < REFRESH_PAUSE_MS) return false;
    if (error.code === "PACKAGE_FETCH_FAILED") return true;
    if (error.code !== "PACKAGE_NOT_FOUND") return false;
    const { mtimeMs } = await stat((await readAptSettings(signal)).lists);
    return this.#clock.now() - mtimeMs > LISTS_AGE_MS;
  }
}

/** Dispose of it when what was downloaded is no longer needed. */
export class AptSession implements AsyncDisposable {
  readonly #apt: Apt;
  readonly #directory: string;
  /** The host's, as Debian names it: "amd64". */
  readonly architecture: string;
  #downloads = 0;

  constructor(apt: Apt, options: { readonly directory: string; readonly architecture: string }) {
    this.#apt = apt;
    this.#directory = options.directory;
    this.architecture = options.architecture;
  }

  /**
   * The packages and everything that they depend on, from an empty system, without Recommends; with `essential` also
   * what every Debian system has. Sorted by name. Throws PACKAGE_NOT_FOUND, PACKAGE_FETCH_FAILED.
   */
  async resolve(
    request: { packages: readonly PackageName[]; essential: boolean },
    options: { signal: AbortSignal },
  ): Promise<readonly ExactPackage[]> {
    const names = request.packages.map(packageArgument);
    const wanted = request.essential ? [...names, `?and(?essential,?architecture(${this.architecture}))`] : names;
    return this.#apt.withFreshLists(async () => {
      const output = await this.#run("apt-get", ["--simulate", "-qq", "--no-install-recommends", "install", "--", ...wanted], options);
      const found = parseSimulation(output);
      // apt takes an unknown name for a pattern or for something that provides it
      const missing = request.packages.find((one) => !found.some((other) => other.name === one.name));
      if (missing !== undefined) throw packageNotFound(missing.name);
      return found;
    }, options);
  }

  /** What the lists say of one package; of its newest version if none is given. Throws PACKAGE_NOT_FOUND, PACKAGE_FETCH_FAILED. */
  async describe(wanted: PackageName, options: { signal: AbortSignal }): Promise<PackageFacts> {
    return this.#apt.withFreshLists(async () => {
      const output = await this.#run("apt-cache", ["--no-all-versions", "show", "--", packageArgument(wanted)], options);
      const facts = parseStanza(output);
      if (facts?.name !== wanted.name) throw packageNotFound(wanted.name);
      return facts;
    }, options);
  }

  /** Fetches the packages, checked by apt against its signed lists. Throws PACKAGE_FETCH_FAILED, DISK_FULL. */
  async download(packages: readonly ExactPackage[], options: { signal: AbortSignal }): Promise<readonly DownloadedPackage[]> {
    this.#downloads += 1;
    const directory = join(this.#directory, `download-${this.#downloads}`);
    await mkdir(directory);
    await this.#run("apt-get", ["-qq", "download", "--", ...packages.map(exactArgument)], { ...options, cwd: directory });
    const files = new Set(await readdir(directory));
    return packages.map((one) => {
      const file = fileName(one);
      if (!files.has(file))
        throw new KilnError("PACKAGE_FETCH_FAILED", `apt said it fetched ${one.name} ${one.version}, but there is no ${file}`, {
          object: one.name,
        });
      return { ...one, path: join(directory, file) };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #run(command: "apt-get" | "apt-cache", args: readonly string[], options: { signal: AbortSignal; cwd?: string }): Promise<string> {
    const cache = join(this.#directory, "cache");
    const settings = {
      "Dir::State::status": "/dev/null",
      "Dir::Cache": cache,
      "Dir::Cache::pkgcache": "pkgcache.bin",
      "Dir::Cache::srcpkgcache": "",
      "Debug::NoLocking": "true",
      // the staging directory is closed to apt's own user
      "APT::Sandbox::User": "root",
      "Acquire::Retries": "3",
      "Acquire::http::Timeout": "60",
      "Acquire::https::Timeout": "60",
    };
    const given = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    return runApt(command, [...given, ...args], { cwd: this.#directory, ...options });
  }
}

const packageArgument = ({ name, version }: PackageName): string => {
  if (!PACKAGE_NAME.test(name)) throw new KilnError("REFERENCE_INVALID", `${JSON.stringify(name)} is no name of a package`);
  if (version === null) return name;
  if (!PACKAGE_VERSION.test(version)) throw new KilnError("REFERENCE_INVALID", `${JSON.stringify(version)} is no version of a package`);
  return `${name}=${version}`;
};

const exactArgument = ({ name, version, architecture }: ExactPackage): string =>
  architecture === "all" ? packageArgument({ name, version }) : packageArgument({ name, version }).replace("=", `:${architecture}=`);

/** As apt names it: the epoch's colon is escaped. */
const fileName = ({ name, version, architecture }: ExactPackage): string => `${name}_${version.replaceAll(":", "%3a")}_${architecture}.deb`;

/** Lines of `apt-get --simulate`: `Inst NAME[:ARCH] (VERSION ORIGIN… [ARCH])`. */
const parseSimulation = (output: string): ExactPackage[] => {
  const found = output.split("\n").flatMap((line): ExactPackage[] => {
    const [, name, version, architecture] = /^Inst ([^\s:]+)(?::\S+)? \((\S+) .*?\[(\S+)\]\)/.exec(line) ?? [];
    return name === undefined || version === undefined || architecture === undefined ? [] : [{ name, version, architecture }];
  });
  return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.architecture < b.architecture ? -1 : 1));
};

/** The first stanza of `apt-cache show`; null where it lacks a field that is needed. */
const parseStanza = (output: string): PackageFacts | null => {
  const [stanza = ""] = output.split("\n\n");
  const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1];
  const [name, version, architecture, sha256] = [field("Package"), field("Version"), field("Architecture"), field("SHA256")];
  if (name === undefined || version === undefined || architecture === undefined || sha256 === undefined) return null;
  const depends = [field("Pre-Depends"), field("Depends")].flatMap((list) => list?.split(/,\s*/) ?? []);
  return { name, version, architecture, sha256, depends };
};

const runApt = async (command: string, args: readonly string[], options: { signal: AbortSignal; cwd?: string }): Promise<string> => {
  try {
    const { stdout } = await runTool(command, args, {
      ...options,
      env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
    });
    return new TextDecoder().decode(stdout);
  } catch (error) {
    throw error instanceof ToolError ? aptError(error) : error;
  }
};

const readAptSettings = async (signal: AbortSignal): Promise<{ lists: string; architecture: string }> => {
  const output = await runApt("apt-config", ["shell", "LISTS", "Dir::State::lists/d", "ARCHITECTURE", "APT::Architecture"], { signal });
  const value = (name: string): string | undefined => new RegExp(`^${name}='(.*)'$`, "m").exec(output)?.[1];
  const [lists, architecture] = [value("LISTS"), value("ARCHITECTURE")];
  if (lists === undefined || architecture === undefined)
    throw new KilnError("PACKAGE_FETCH_FAILED", "apt does not say where its lists are");
  return { lists, architecture };
};

const stderrOf = (error: KilnError): string => (error.cause instanceof ToolError ? error.cause.stderr : "");

const packageNotFound = (name: string, cause?: ToolError): KilnError =>
  new KilnError("PACKAGE_NOT_FOUND", `apt knows no package ${name}`, { object: name, cause });

const NOT_FOUND = [
  /^E: Unable to locate package (\S+)/m,
  /^E: Package '([^']+)' has no installation candidate/m,
  /^E: No packages found()/m,
  /^E: Couldn't find any package by (?:glob|regex) '([^']+)'/m,
];

const aptError = (error: ToolError): KilnError => {
  const { stderr } = error;
  if (error.code === "ENOENT") {
    return new KilnError("HOST_TOOL_MISSING", `${error.command} is not there: deb: images and kernels need a Debian host`, {
      cause: error,
    });
  }
  const version = /^E: Version '([^']+)' for '([^']+)' was not found/m.exec(stderr);
  if (version !== null)
    return new KilnError("PACKAGE_NOT_FOUND", `apt knows no version ${version[1]} of the package ${version[2]}`, {
      cause: error,
      object: version[2],
    });
  for (const pattern of NOT_FOUND) {
    const match = pattern.exec(stderr);
    if (match !== null) return packageNotFound(match[1] === undefined || match[1] === "" ? "of that name" : match[1], error);
  }
  if (/No space left on device|enough free space/.test(stderr))
    return new KilnError("DISK_FULL", "there is no room for apt's downloads", { cause: error });
  if (/unmet dependencies|held broken packages|Unable to correct problems/.test(stderr)) {
    return new KilnError("PACKAGE_FETCH_FAILED", "the packages cannot be installed together", {
      cause: error,
      hint: "ask apt why: `apt-get --simulate install …`",
    });
  }
  const [said = error.message] = /^E: .*$/m.exec(stderr) ?? [];
  return new KilnError("PACKAGE_FETCH_FAILED", `apt failed: ${said}`, { cause: error });
};
