import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { armedFailpoints, listFailpoints, longSocketPath } from "@kiln/std/node";
import { KilnError } from "@kiln/protocol";
import { pino } from "pino";
import { type Composition, compose } from "./compose.ts";
import type { Config } from "./config/config.ts";
import { createApp } from "./http/app.ts";
import { type CommandSockets, createCommandSockets } from "./http/command-socket.ts";
import type { Core } from "./operations/core.ts";
import { suspendOperations } from "./operations/hand-over.ts";
import { type LeftFiles, reconcile } from "./operations/reconcile.ts";
import { scrubSlowly } from "./operations/scrub-slowly.ts";
import { healRegularly } from "./operations/heal-vms.ts";
import { sweepRegularly } from "./operations/sweep.ts";
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
/** Clients that may connect while the daemon computes: Node's 511 turn away the rest of a crowd. The host's net.core.somaxconn, mostly 4096, is the end of it. */
const BACKLOG = 4096;

/** Serves a home whose lock the caller holds, until a signal or the API ends it. VMs run on. */
export const serveHome = async (service: Service): Promise<void> => {
  const paths = homePaths(service.config.home);
  const log = pino({ level: process.env["KILN_LOG"] ?? "info", base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime });
  await using composition = compose({ config: service.config, paths, journal: log, version: service.version });
  requireKnownFailpoint();
  await reconcile(composition.core, leftFiles(paths));
  const stopped = Promise.withResolvers<string>();
  const sockets = createCommandSockets(composition.core);
  const server = createHttpServer(composition, { ...service, paths, sockets, stop: () => stopped.resolve("the API") });
  using _socket = await listen(server, paths);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopped.resolve(signal));
  void sweepRegularly(composition.core);
  void healRegularly(composition.core);
  const scrubbing = scrubSlowly(composition.core);
  void takeRoomLater(composition);
  tell(composition.core, { type: "daemon.started", subject: "daemon", data: { id: null, pid: process.pid, version: service.version } });
  log.info({ home: paths.home, version: service.version }, "the daemon is ready");
  const by = await stopped.promise;
  tell(composition.core, { type: "daemon.stopping", subject: "daemon", data: { id: null, pid: process.pid, by } });
  log.info({ by }, "the daemon stops; its VMs run on");
  await shutDown(composition, { server, sockets });
  await scrubbing;
};

/** Whoever started the daemon has something to do first. */
const ROOM_AFTER_MS = 3_000;

const takeRoomLater = async ({ core, takeSpareRoom }: Composition): Promise<void> => {
  try {
    await core.clock.sleep(ROOM_AFTER_MS, { signal: core.stopping });
    takeSpareRoom();
  } catch (error) {
    if (!core.stopping.aborted) core.journal.warn({ error: String(error) }, "no room could be taken on the disk ahead");
  }
};

/** A mistyped failpoint must not pass for a test. */
const requireKnownFailpoint = (): void => {
  const unknown = armedFailpoints().find(({ name }) => !listFailpoints().includes(name));
  if (unknown !== undefined) throw new KilnError("USAGE", `there is no failpoint ${unknown.name}`);
};

const leftFiles = (paths: HomePaths): LeftFiles => ({
  staging: paths.staging,
  sweepStaging: () => sweepStaging(paths),
  usage: new DirectoryUsage(paths),
  remove: (path) => rm(path, { recursive: true, force: true }),
});

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
  server.listen({ path: short.path, backlog: BACKLOG }, () => bound.resolve());
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
  await suspendOperations(core);
  beginStop();
  await core.pool[Symbol.asyncDispose]();
  await core.ports[Symbol.asyncDispose]();
  sockets.terminate();
  if (!core.vms.list().some(needsNetwork)) await core.networks.close();
  await Promise.allSettled(core.running.list().map((run) => run.vmm.detach()));
  server.closeAllConnections();
};
