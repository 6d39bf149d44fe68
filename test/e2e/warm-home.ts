/**
 * Homes that have a kernel set and, where they are asked for, a pre-boot snapshot and an image: made by the daemon once for each
 * state of the sources, kept under `.cache/test-homes/`, and copied for each test that is not about how they are made.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { glob, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildOnce, listBuilds, ROOT } from "../fixtures/cache.ts";
import type { TestHome } from "./home.ts";

const run = promisify(execFile);

const CACHE = join(ROOT, ".cache/test-homes");
/** On which records and artifacts depend. */
const SOURCES = ["package-lock.json", ".cache/agent/kiln-agent", "packages/{std,protocol,formats,daemon}/src/**/*.ts"];
/** Each has a kernel set of 150 MB; a test that still copies uses one of the newest. */
const KEPT_HOMES = 8;
const BUILD_MS = 300_000;
/** It is small, and gone again where none is asked for. */
const SMALL_IMAGE = "deb:busybox-static";

export interface WarmHome {
  /** VMs of one CPU and so much memory start from a snapshot. */
  readonly memory?: string;
  readonly image?: string;
}

type OpenHome = (path: string, env: Readonly<Record<string, string>>) => TestHome;

/** Makes `to` such a home. No daemon runs in it. */
export const copyWarmHome = async (to: string, warm: WarmHome, open: OpenHome): Promise<void> => {
  await copy(join(await ensureHome(warm, { open, signal: AbortSignal.timeout(BUILD_MS) }), "home"), to);
};

interface Making {
  readonly open: OpenHome;
  readonly signal: AbortSignal;
}

/** Each is made of one that has less: one kernel set is built, and a snapshot for each memory. */
const ensureHome = async (warm: WarmHome, making: Making): Promise<string> => {
  const { memory, image } = warm;
  const { open, signal } = making;
  const name = `home-${await keyOf(warm)}`;
  const find = async (): Promise<string | null> => ((await listBuilds(CACHE, name)).includes(name) ? join(CACHE, name) : null);
  const found = await find();
  if (found !== null) return found;
  const less = image !== undefined && memory !== undefined ? { memory } : {};
  const base = memory === undefined && image === undefined ? null : await ensureHome(less, making);
  const build = async (staged: string): Promise<string> => {
    const path = join(staged, "home");
    if (base !== null) await copy(join(base, "home"), path);
    // nothing but a snapshot needs a guest
    if (image !== undefined) await inDaemon(open(path, FAKE), (home) => addImage(home, image));
    else if (memory !== undefined) await inDaemon(open(path, {}), (home) => home.ok("kernel", "warm", "--memory", memory));
    else await inDaemon(open(path, FAKE), addKernel);
    await rm(join(path, "daemon.log"));
    for (const old of (await listBuilds(CACHE, "home-")).slice(KEPT_HOMES - 1)) await rm(join(CACHE, old), { recursive: true });
    return name;
  };
  return buildOnce({ cache: CACHE, signal, find, build });
};

const FAKE = { KILN_DRIVER: "fake" };

const copy = (from: string, to: string): Promise<unknown> => run("cp", ["-a", "--reflink=auto", from, to]);

const inDaemon = async (home: TestHome, work: (home: TestHome) => Promise<unknown>): Promise<void> => {
  try {
    await work(home);
  } finally {
    await home.ok("daemon", "stop");
  }
};

/** `create` builds all that a start needs, and starts nothing. */
const addImage = async (home: TestHome, image: string): Promise<void> => {
  await home.ok("create", "--name", "first", image, "--", "true");
  await home.ok("rm", "first");
};

const addKernel = async (home: TestHome): Promise<void> => {
  await addImage(home, SMALL_IMAGE);
  await home.ok("rmi", SMALL_IMAGE);
};

const keyOf = async (warm: WarmHome): Promise<string> => {
  const hash = createHash("sha256").update(JSON.stringify([warm.memory, warm.image]));
  const paths = await Array.fromAsync(glob(SOURCES, { cwd: ROOT }));
  for (const path of paths.toSorted()) {
    if (!path.endsWith(".test.ts")) hash.update(`\0${path}\0`).update(await readFile(join(ROOT, path)));
  }
  return hash.digest("hex").slice(0, 16);
};
