import { KilnError } from "@kiln/protocol/errors";
import { socketPathOf } from "@kiln/sdk/node";
import { systemClock } from "@kiln/std";
import { identifyProcess, processState } from "@kiln/std/node";
import type { CommandContext } from "../context.ts";
import { daemonAnswers } from "./probe.ts";

/** A daemon that ends lets what it is at come to a stop. */
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 25;

/** Ends the home's daemon and returns when its process is gone; says whether one ran. Throws DAEMON_UNREACHABLE if it does not end. */
export const stopDaemon = async (context: CommandContext): Promise<boolean> => {
  const { signal } = context;
  const home = await context.home();
  const socket = socketPathOf(home);
  if (!(await daemonAnswers(socket))) return false;
  const kiln = await context.client();
  const { pid } = await kiln.daemon.status({ signal });
  const daemon = await identifyProcess(pid);
  await kiln.daemon.stop({ signal });
  const deadlineMs = systemClock.monotonicMs() + STOP_TIMEOUT_MS;
  // one that answers is this one, or, where a client brought it up meanwhile, the next one
  while (daemon === null ? await daemonAnswers(socket) : (await processState(daemon)) === "alive") {
    if (systemClock.monotonicMs() > deadlineMs) {
      throw new KilnError("DAEMON_UNREACHABLE", `the daemon of ${home} does not end`, {
        ...{ object: home, hint: "see its log, daemon.log in the home" },
      });
    }
    await systemClock.sleep(POLL_MS, { signal });
  }
  return true;
};
