import { identifyProcess, type ProcessIdentity, type ProcessStat, type ProcessTable, signalProcess } from "@kiln/std/node";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";

/** Ends the VMM whose identity was written down when it began, if it still runs. */
type EndVmm = (parts: { vmm: ProcessIdentity; host: Host; daemon: Actor }) => Promise<void>;

/** A host with few pids: the lowest free one is the next process's. */
class Host implements ProcessTable {
  readonly #processes = new Map<number, { readonly name: string; readonly startTime: string }>();
  readonly killed: string[] = [];
  #ticks = 0;

  spawn(name: string): number {
    let pid = 100;
    while (this.#processes.has(pid)) pid += 1;
    this.#ticks += 1;
    this.#processes.set(pid, { name, startTime: String(this.#ticks) });
    return pid;
  }

  exit(pid: number): void {
    this.#processes.delete(pid);
  }

  bootId(): string {
    return "boot";
  }

  namespace(): string {
    return "pid:[1]";
  }

  stat(pid: number): ProcessStat | null {
    const found = this.#processes.get(pid);
    return found === undefined ? null : { state: "S", threads: 1, startTime: found.startTime };
  }

  kill(pid: number, signal: NodeJS.Signals | 0): void {
    const found = this.#processes.get(pid);
    if (found === undefined) throw Object.assign(new Error(`kill ESRCH`), { code: "ESRCH" });
    if (signal === 0) return;
    this.killed.push(found.name);
    this.exit(pid);
  }
}

const scenario = async (scheduler: Scheduler, end: EndVmm): Promise<void> => {
  const host = new Host();
  const [daemon, guest, database] = ["daemon", "guest", "database"].map((name) => new Actor(scheduler, name));
  must(daemon !== undefined && guest !== undefined && database !== undefined, "an actor is missing");
  const pid = host.spawn("vmm");
  const vmm = await identifyProcess(pid, host);
  must(vmm !== null, "the VMM that has just begun is not there");
  const powerOff = async (): Promise<void> => {
    await guest.step("powers off");
    host.exit(pid);
    guest.says(`has ended; pid ${pid} is free`);
  };
  const stranger = async (): Promise<void> => {
    for (let time = scheduler.dice.below(4); time >= 0; time -= 1) await database.step("is about to start");
    database.says(`starts as pid ${host.spawn("database")}`);
  };
  const remove = async (): Promise<void> => {
    await daemon.step("removes the VM");
    await end({ vmm, host, daemon });
  };
  await Promise.all([powerOff(), stranger(), remove()]);
  must(!host.killed.includes("database"), "SIGKILL went to a database that has nothing to do with it");
};

/** Is there a process? Then kill it. */
const byPid: EndVmm = async ({ vmm, host, daemon }) => {
  await daemon.step(`kill -0 ${vmm.pid}`);
  if (host.stat(vmm.pid) === null) return;
  daemon.says(`finds that pid ${vmm.pid} runs`);
  await daemon.step(`kill -9 ${vmm.pid}`);
  if (host.stat(vmm.pid) !== null) host.kill(vmm.pid, "SIGKILL");
};

export const exhibit: Exhibit = {
  id: "I37",
  title: "The pid in the pid file is somebody else's by now",
  story: [
    "A daemon writes down the pid of each VMM, is restarted, and later ends what it finds under that number. Pids are used again, in",
    "a container and after a reboot within minutes: it kills somebody else's process, or takes a stranger for its VM that still runs and",
    "keeps its memory reserved for ever.",
    "Order: the guest powers off; a database starts and gets its pid; the VM is removed, and the database is killed.",
    "Kiln names a process by boot id, pid namespace, pid and start time, and looks and signals in one turn. What lives in another pid",
    "namespace cannot be looked at from here: it counts as alive, and is not signalled.",
    "Code: `packages/std/src/node/process-identity.ts`.",
  ],
  complaint: "SIGKILL went to a database",
  kiln: (scheduler) =>
    scenario(scheduler, async ({ vmm, host, daemon }) => {
      await daemon.step("end the VMM");
      await signalProcess(vmm, "SIGKILL", host);
    }),
  naive: (scheduler) => scenario(scheduler, byPid),
};
