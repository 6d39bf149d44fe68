import { asKilnError, KilnError } from "@kiln/protocol";
import { abortable, signalAfter, withDeadline } from "@kiln/std";
import type { ExecStatus } from "../vms/agent.port.ts";
import type { VmmEnd } from "../vms/driver.port.ts";
import type { LogChunk } from "../vms/log.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { LIVE_STATES } from "../vms/states.ts";
import { type Core, errorView, nowIso } from "./core.ts";
import { awaitGoodbyes, awaitReturn } from "./client-return.ts";
import { connectAgent } from "./connect-agent.ts";
import { OPERATION_LIMITS } from "./limits.ts";
import { removeVm } from "./remove-vm.ts";
import { MAIN_EXEC, type RunningVm, type VmExit } from "./running-vms.ts";

/** Processes beside the ended command get this long after SIGTERM. */
const GRACE_MS = 500;
/** A guest that has not powered off by then is killed. */
const POWER_OFF_MS = 15_000;
const RECONNECT_ATTEMPTS = 3;
const RECONNECT_MS = 5_000;
/** An adopted VMM is looked at four times a second. */
const END_SEEN_MS = 600;
const NEVER = new AbortController().signal;

/**
 * Follows a run to its end: keeps the command's output, powers the VM off when the command has ended, and writes down
 * how it ended. One follower for each run; it takes no lock, so stop and delete can wait for it under theirs.
 */
export const followRun = (core: Core, run: RunningVm): void => {
  void follow(core, run).catch((error: unknown) => {
    core.journal.error({ vm: run.id, error: asKilnError(error).message }, "following a VM failed");
  });
};

const follow = async (core: Core, run: RunningVm): Promise<void> => {
  const commandEnded = followCommand(core, run);
  const first = await Promise.race([run.vmm.ended.then(() => "vmm" as const), commandEnded.then(() => "command" as const)]);
  if (core.stopping.aborted) {
    await run.log.close();
    return;
  }
  if (first === "command") await powerOff(core, run);
  const end = await run.vmm.ended;
  run.vmmEnd = end;
  run.log.letGo();
  await commandEnded;
  await finish(core, run, end);
};

/** Output into the log until the command has exited, or the VM or this daemon has ended. An idle VM has none. */
const followCommand = async (core: Core, run: RunningVm): Promise<void> => {
  for (let losses = 0; ;) {
    try {
      const { exitCode, signal, oomKilled } = await pump(core, run, () => (losses = 0));
      run.commandExit = { exitCode, signal, oomKilled, error: null };
      run.commandExited.resolve();
      return;
    } catch (error) {
      if (core.stopping.aborted || (await hasEnded(core, run))) return;
      losses += 1;
      core.journal.warn({ vm: run.id, losses, error: asKilnError(error).message }, "the agent's channel was lost");
      if (losses > RECONNECT_ATTEMPTS) {
        run.ending ??= "lost";
        await run.vmm.kill();
        return;
      }
      await reconnect(core, run);
    }
  }
};

const pump = async (core: Core, run: RunningVm, alive: () => void): Promise<ExecStatus> => {
  if (run.main === null) {
    await Promise.race([run.session.closed, run.vmm.ended]);
    throw new KilnError("GUEST_AGENT_PROTOCOL", `the channel to the guest of ${run.name} closed`, { object: run.name });
  }
  for await (const event of run.main.events) {
    alive();
    if (event.type === "exit") return event.status;
    await keep(core, run, event);
    run.main.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  throw new KilnError("GUEST_AGENT_PROTOCOL", `the output of ${run.name} ended without an exit`, { object: run.name });
};

/** What a full host disk does not take is lost, and its readers see the gap; the VM is not to blame. */
const keep = async (core: Core, run: RunningVm, chunk: LogChunk): Promise<void> => {
  try {
    await run.log.append(chunk);
  } catch (error) {
    core.journal.error({ vm: run.id, bytes: chunk.bytes.length, error: String(error) }, "output could not be kept");
  }
};

/** Whether the VMM is gone; asked a moment after its channel closed, because both go together. */
const hasEnded = async (core: Core, run: RunningVm): Promise<boolean> => {
  if (run.vmmEnd !== null) return true;
  const pause = core.clock.sleep(END_SEEN_MS, { signal: NEVER }).then(() => false);
  return Promise.race([run.vmm.ended.then(() => true), pause]);
};

const reconnect = async (core: Core, run: RunningVm): Promise<void> => {
  using patience = signalAfter(RECONNECT_MS, core.clock);
  const { signal } = patience;
  try {
    await run.session[Symbol.asyncDispose]();
    run.session = await connectAgent(core, run, signal);
    if (run.main !== null) run.main = await run.session.attach(MAIN_EXEC, { signal });
  } catch (error) {
    core.journal.warn({ vm: run.id, error: asKilnError(error).message }, "the agent did not come back");
  }
};

/** Syncs the guest's disks and ends the guest (I25); a guest that does not obey is killed. */
export const powerOff = async (core: Core, run: RunningVm): Promise<void> => {
  const state = core.vms.get(run.id)?.state;
  if (state === "running" || state === "paused") core.vms.change(run.id, { state: "stopping" }, { from: [state] });
  try {
    await withDeadline(
      POWER_OFF_MS,
      async (signal) => {
        await run.session.powerOff(GRACE_MS, { signal });
        await abortable(run.vmm.ended, signal);
      },
      { signal: NEVER, clock: core.clock, onTimeout: () => new Error("the guest did not power off") },
    );
  } catch (error) {
    core.journal.warn({ vm: run.id, error: asKilnError(error).message }, "the guest is killed: it did not power off");
  }
  await run.vmm.kill();
};

/** Whatever fails on the way, those who wait for the end are told of it. */
const finish = async (core: Core, run: RunningVm, end: VmmEnd): Promise<void> => {
  await core.ports.closeAll(run.id);
  await awaitReturn(core, run);
  const exit = planExit(run, end);
  const record = core.vms.get(run.id);
  try {
    await run.session[Symbol.asyncDispose]();
    if (record !== null && record.state !== "deleting") writeExit(core, record, exit);
  } catch (error) {
    core.journal.error({ vm: run.id, error: asKilnError(error).message }, "how a VM ended could not be written down");
    if (record !== null) void writeExitLater(core, record, exit);
  } finally {
    core.running.end(run); // from here on the log is read from its files
    run.finished.resolve(exit);
    await run.log.close();
  }
  if (record?.autoRemove !== true || record.state === "deleting") return;
  await awaitGoodbyes(core, run);
  await removeVm(core, run.id, { force: true });
};

const writeExit = (core: Core, record: VmRecord, exit: VmExit): void => {
  const { exitCode, signal, error } = exit;
  core.vms.change(
    record.id,
    {
      state: error === null ? "exited" : "failed",
      exitCode,
      signal,
      error: error === null ? null : errorView(error),
      finishedAt: nowIso(core),
      vmm: null,
    },
    { from: [record.state] },
  );
};

/** Once there is room; until then nobody can start it, as its record says that it runs. */
const writeExitLater = async (core: Core, record: VmRecord, exit: VmExit): Promise<void> => {
  while (!core.stopping.aborted) {
    try {
      await core.clock.sleep(OPERATION_LIMITS.unwrittenMs, { signal: core.stopping });
      const now = core.vms.get(record.id);
      if (now?.epoch !== record.epoch || !LIVE_STATES.has(now.state)) return;
      writeExit(core, now, exit);
      if (record.autoRemove) await removeVm(core, record.id, { force: true });
    } catch (error) {
      if (!core.stopping.aborted)
        core.journal.warn({ vm: record.id, error: asKilnError(error).message }, "how a VM ended is tried to be written down again");
    }
  }
};

const SIGKILL_EXIT: VmExit = { exitCode: 137, signal: "SIGKILL", oomKilled: false, error: null };
const CLEAN_EXIT: VmExit = { exitCode: 0, signal: null, oomKilled: false, error: null };

/** How a run ended, from what is known of it. What the guest said of its command comes first. */
export const planExit = (run: Pick<RunningVm, "commandExit" | "ending" | "main" | "name">, end: VmmEnd): VmExit => {
  if (run.commandExit !== null) return run.commandExit;
  if (run.ending === "kill") return SIGKILL_EXIT;
  if (end.reason === "guest-shutdown" || run.ending === "stop") return run.main === null ? CLEAN_EXIT : SIGKILL_EXIT;
  const said =
    end.reason === "guest-panic"
      ? `the guest's kernel panicked: ${end.console}`
      : end.reason === "vmm-died"
        ? end.detail
        : run.ending === "lost"
          ? "the channel to its agent was lost"
          : "it was killed";
  const error = new KilnError("VM_DIED", `the VM ${run.name} died: ${said}`, { object: run.name });
  return { exitCode: null, signal: null, oomKilled: false, error };
};
