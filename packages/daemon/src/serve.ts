import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { basename, join } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { armedFailpoints, listFailpoints, longSocketPath } from "@kiln/std/node";
import { KilnError } from "@kiln/protocol";
import { pino } from "pino";
import { type Composition, compose } from "./compose.ts";
import type { Config } from "./config/config.ts";
import { createApp } from "./http/app.ts";
import { type CommandSockets, createCommandSockets } from "./http/command-socket.ts";
import { adoptVms, sweepVmDirectories } from "./operations/adopt-vms.ts";
import type { Core } from "./operations/core.ts";
import { reportRepair } from "./operations/report-repair.ts";
import { findInterrupted, forgiveResumes, resumeOperations } from "./operations/resume-operations.ts";
import { scrubSlowly } from "./operations/scrub-slowly.ts";
import { sweepRegularly, sweepUnused } from "./operations/sweep.ts";
import { tell } from "./operations/tell.ts";
import { needsNetwork } from "./operations/vm-network.ts";
import { type HomePaths, homePaths, sweepStaging } from "./store/home.ts";
import { DirectoryUsage } from "./store/home-usage.ts";
import type { KernelFiles } from "./vms/driver.port.ts";

interface Service {
  readonly config: Config;
  readonly version: string;
  readonly startedAt: string;
}

/** A registry's token travels in a header, and the schema allows 64 KiB of it, in base64. */
const HEADER_BYTES = 128 * 2 ** 10;
/** Operations that run when the daemon is told to stop get this long to stop where they stand, or to end. */
const DRAIN_MS = 20_000;

/** Serves a home whose lock the caller holds, until a signal or the API ends it. VMs run on. */
export const serveHome = async (service: Service): Promise<void> => {
  const paths = homePaths(service.config.home);
  const log = pino({ level: process.env["KILN_LOG"] ?? "info", base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime });
  await using composition = compose({ config: service.config, paths, journal: log, version: service.version });
  requireKnownFailpoint();
  await reconcile(composition, paths);
  const stopped = Promise.withResolvers<string>();
  const sockets = createCommandSockets(composition.core);
  const server = createHttpServer(composition, { ...service, paths, sockets, stop: () => stopped.resolve("the API") });
  using _socket = await listen(server, paths);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopped.resolve(signal));
  void sweepRegularly(composition.core);
  const scrubbing = scrubSlowly(composition.core);
  tell(composition.core, { type: "daemon.started", subject: "daemon", data: { id: null, pid: process.pid, version: service.version } });
  log.info({ home: paths.home, version: service.version }, "the daemon is ready");
  const by = await stopped.promise;
  tell(composition.core, { type: "daemon.stopping", subject: "daemon", data: { id: null, pid: process.pid, by } });
  log.info({ by }, "the daemon stops; its VMs run on");
  await shutDown(composition, { server, sockets });
  await scrubbing;
};

/** A mistyped failpoint must not pass for a test. */
const requireKnownFailpoint = (): void => {
  const unknown = armedFailpoints().find(({ name }) => !listFailpoints().includes(name));
  if (unknown !== undefined) throw new KilnError("USAGE", `there is no failpoint ${unknown.name}`);
};

/** Before the first request: what an earlier daemon left is adopted, finished, undone or swept. */
const reconcile = async (composition: Composition, paths: HomePaths): Promise<void> => {
  const { core } = composition;
  const left = await sweepStaging(paths);
  // a guest that was to be saved ran in there
  if (left > 0) await core.driver.endStrays(paths.staging);
  if (left > 0)
    reportRepair(core, { subject: "staging", id: null, found: `${left} unfinished files or directories`, did: "they are gone" });
  const interrupted = findInterrupted(core);
  core.operations.failInterrupted(interrupted.operations);
  await adoptVms(core, interrupted.vms);
  await sweepVmDirectories(core);
  await reconcileNetworks(core);
  await sweepKernels(core);
  core.preboots?.sweep((key) => core.kernels.getKernel(key) !== null);
  await sweepArtifacts(core, paths);
  await sweepUnused(core);
  resumeOperations(core, interrupted);
  await core.pool.reconcile(core);
  if (core.config.pool.length > 0 && core.preboots === null) core.journal.warn({}, "there is no pool: pre-boot snapshots are switched off");
};

/** After the VMs: they say whether what they share is still needed. */
const reconcileNetworks = async (core: Core): Promise<void> => {
  const needed = core.vms.list().some(needsNetwork);
  const ended = await core.networks.reconcile({ needed, signal: core.stopping });
  if (ended > 0)
    reportRepair(core, { subject: "network", id: null, found: `${ended} processes of no use to any VM`, did: "they were ended" });
};

/** A newer agent or builder made a set of its own; the old one goes when no VM boots from it. */
const sweepKernels = async (core: Core): Promise<void> => {
  const builderDigest = await core.kernelSets.builderDigest().catch((error: unknown) => {
    core.journal.warn({ error: String(error) }, "old kernels are kept: it is not known which are");
    return null;
  });
  if (builderDigest === null) return;
  for (const { key } of core.kernels
    .listKernels()
    .filter((one) => one.builderDigest !== builderDigest && !core.kernels.isKernelInUse(one.key))) {
    core.kernels.forgetKernel(key);
    await core.kernelSets.remove(key);
  }
};

/** A file was published and the daemon died before its record: it is whole, but nothing names it. */
const sweepArtifacts = async (core: Core, paths: HomePaths): Promise<void> => {
  const usage = new DirectoryUsage(paths);
  const orphans = [
    ...(await usage.rootfs()).filter(({ key }) => core.images.getRootfs(key) === null),
    ...(await usage.preboots()).filter(({ key }) => core.preboots?.has(key) === false),
    ...(await usage.kernels()).filter(({ key }) => core.kernels.getKernel(key) === null),
  ];
  for (const { path } of orphans) {
    await rm(path, { recursive: true, force: true });
    reportRepair(core, { subject: basename(path), id: null, found: "an artifact without a record", did: "it is gone" });
    core.journal.warn({ path }, "removed an artifact without a record");
  }
};

const createHttpServer = (
  composition: Composition,
  service: Service & { paths: HomePaths; sockets: CommandSockets; stop: () => void },
): Server => {
  const { core } = composition;
  const { paths, config } = service;
  const app = createApp({
    ...composition,
    facts: { pid: process.pid, startedAt: service.startedAt, version: service.version, socket: paths.socket },
    usage: new DirectoryUsage(paths),
    examine: async (options) => {
      const { examine } = await import("./examine.ts");
      return examine({ config, driver: core.driver, openKernel: () => openAnyKernel(core) }, options);
    },
    failpoints: listFailpoints,
    stop: service.stop,
  });
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer({ maxHeaderSize: HEADER_BYTES }, (request, response) => void answer(request, response));
  server.on("upgrade", service.sockets.upgrade);
  server.requestTimeout = 0; // uploads and waits take as long as they take; the socket is the owner's alone
  return server;
};

/** With a kernel the driver decides by booting it; without one it says what is installed. */
const openAnyKernel = async (core: Core): Promise<KernelFiles | null> => {
  const [kernel] = core.kernels.listKernels();
  return kernel === undefined ? null : core.kernelSets.open(kernel.key);
};

/** Binds in a directory of its own and moves the socket into place: it never exists with a wider mode than 0600 (I40). */
const listen = async (server: Server, paths: HomePaths): Promise<Disposable> => {
  const directory = join(paths.staging, `socket-${process.pid}`);
  await mkdir(directory, { mode: 0o700 });
  const staged = join(directory, "kiln.sock");
  const short = longSocketPath(staged);
  const bound = Promise.withResolvers<void>();
  server.once("error", bound.reject);
  server.listen(short.path, () => bound.resolve());
  await bound.promise;
  await chmod(staged, 0o600);
  await rename(staged, paths.socket);
  await rm(directory, { recursive: true });
  return short;
};

/** Operations stop where they stand and wait for the next daemon, clients are cut off so that they come back to the next daemon, VMs run on. */
const shutDown = async (
  { core, beginStop }: Composition,
  { server, sockets }: { server: Server; sockets: CommandSockets },
): Promise<void> => {
  server.close();
  await rm(homePaths(core.config.home).socket, { force: true });
  core.operations.suspendAll();
  const patience = new AbortController();
  const drained = core.operations.drain().then(() => true);
  const late = core.clock.sleep(DRAIN_MS, { signal: patience.signal }).then(
    () => false,
    () => false,
  );
  if (!(await Promise.race([drained, late]))) core.journal.warn({}, "operations were still running when the daemon ended");
  patience.abort();
  forgiveResumes(core);
  beginStop();
  await core.pool[Symbol.asyncDispose]();
  await core.ports[Symbol.asyncDispose]();
  sockets.terminate();
  if (!core.vms.list().some(needsNetwork)) await core.networks.close();
  await Promise.allSettled(core.running.list().map((run) => run.vmm.detach()));
  server.closeAllConnections();
};
