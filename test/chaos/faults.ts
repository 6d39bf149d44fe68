import { setTimeout as sleep } from "node:timers/promises";
import { assertNever } from "@kiln/std";
import { identifyProcess, signalProcess } from "@kiln/std/node";
import { readRecords } from "../crash/records.ts";
import type { Ground } from "./ground.ts";
import type { Fault } from "./plan.ts";

/** Lets a fault happen; returns when it is over. */
export const strike = async (ground: Ground, fault: Fault): Promise<void> => {
  await ground.note(`fault: ${JSON.stringify(fault)}`);
  switch (fault.kind) {
    case "kill-daemon":
    case "stop-daemon":
      await ground.endDaemon(fault.kind === "kill-daemon" ? "SIGKILL" : "SIGTERM");
      await sleep(fault.downMs);
      await ground.ensureDaemon();
      break;
    case "kill-vmm":
      await signalVmm(ground, fault.vm, "SIGKILL");
      break;
    case "freeze-vmm":
      await signalVmm(ground, fault.vm, "SIGSTOP");
      await sleep(fault.forMs);
      await signalVmm(ground, fault.vm, "SIGCONT");
      break;
    case "fill-disk":
      if (!ground.canFill) return;
      await ground.fill(fault.leftBytes);
      await sleep(fault.forMs);
      await ground.makeRoom();
      break;
    case "registry":
      ground.registry.mood = fault.mood;
      await sleep(fault.forMs);
      ground.registry.mood = null;
      break;
    default:
      assertNever(fault);
  }
  await ground.note(`over: ${fault.kind}`);
};

/** To the process that the records name, as `ps` shows it; a VM that has none is left alone. */
const signalVmm = async (ground: Ground, vm: string, signalName: NodeJS.Signals): Promise<void> => {
  const pid = readRecords(ground.home.path).vms.find(({ name }) => name === vm)?.vmm?.identity.pid;
  const vmm = pid === undefined ? null : await identifyProcess(pid);
  if (vmm !== null) await signalProcess(vmm, signalName);
};
