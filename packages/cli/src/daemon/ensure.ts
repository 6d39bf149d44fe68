import { join } from "node:path";
import { DaemonProcess } from "./process.ts";
import { ensureHome } from "./home.ts";
import { daemonAnswers } from "./probe.ts";
import type { KilnError } from "@kiln/protocol/errors";
import { abortable, systemClock, type Clock } from "@kiln/std";

export interface EnsureDaemon {
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** The daemon's program; the one of this installation unless told. */
  readonly entry?: string;
  readonly timeoutMs?: number;
}

/** A daemon that has records to look through takes seconds; 20 that start at once on two cores take some more. */
const START_TIMEOUT_MS = 20_000;
const POLL_FIRST_MS = 10;
const POLL_LAST_MS = 200;
/**
 * One that somebody has killed before it answered says nothing of the next; one that ends by itself does. Only once: a daemon
 * that an operation kills each time gives that up after a few (`RESUMES`), and they are not all for one client.
 */
const MOST_KILLED = 1;

/**
 * Resolves when a daemon answers in the home; starts one, detached, if none does. Any number of callers may do so at
 * once: the home's lock lets one daemon live, and all find it. Says whether it was running already.
 * Throws HOME_INVALID, PERMISSION_DENIED, DAEMON_UNREACHABLE, or what the daemon says as it fails to start.
 */
export const ensureDaemon = async (options: EnsureDaemon): Promise<{ readonly wasRunning: boolean }> => {
  const { home, signal } = options;
  const socketPath = join(home, "kiln.sock");
  if (await abortable(daemonAnswers(socketPath), signal)) return { wasRunning: true };
  await ensureHome(home, process.getuid?.() ?? null);
  await startDaemon(options, socketPath);
  return { wasRunning: false };
};

const startDaemon = async (options: EnsureDaemon, socketPath: string): Promise<void> => {
  const { home, env, signal, clock = systemClock } = options;
  const entry = options.entry ?? import.meta.resolve("@kiln/daemon");
  const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? START_TIMEOUT_MS);
  let daemon = await DaemonProcess.spawn({ home, env, entry });
  let lastError: KilnError | null = null;
  let killed = 0;
  for (let pauseMs = POLL_FIRST_MS; ; pauseMs = Math.min(POLL_LAST_MS, pauseMs * 2)) {
    if (await daemonAnswers(socketPath)) break;
    if (clock.monotonicMs() > deadlineMs) throw lastError ?? (await daemon.timeoutError(socketPath));
    const ended = daemon.hasEnded;
    await clock.sleep(pauseMs, { signal });
    if (!ended || (await daemonAnswers(socketPath))) continue;
    const error = await daemon.error();
    killed += daemon.wasKilled ? 1 : 0;
    if (error.code !== "HOME_IN_USE" && (!daemon.wasKilled || killed > MOST_KILLED)) throw error;
    // Another daemon holds the home: it is about to answer, or about to end and leave the home to the next one.
    lastError = error;
    await clock.sleep(POLL_LAST_MS, { signal });
    if (!(await daemonAnswers(socketPath))) daemon = await DaemonProcess.spawn({ home, env, entry });
  }
  daemon.leave();
};
