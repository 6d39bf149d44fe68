import { execRequest, KilnError, portRequest, pruneRequest, removePort } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { removeImage, tagImage } from "../../../packages/daemon/src/operations/images.ts";
import { addPort, removePorts } from "../../../packages/daemon/src/operations/ports.ts";
import { prune } from "../../../packages/daemon/src/operations/prune.ts";
import { killVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import { execInVm } from "../../../packages/daemon/src/operations/stream-vm.ts";
import { waitForVm } from "../../../packages/daemon/src/operations/wait-vm.ts";
import { GONE, type House } from "./house.ts";
import type { Oracle } from "./oracle.ts";
import type { Command } from "./program.ts";
import { Violation } from "./violation.ts";

/** Commands that are answered when they are done. */
export type Prompt = Exclude<Command, { readonly wait: boolean } | { readonly do: "cancel" | "idle" }>;

interface Parts {
  readonly house: House;
  readonly oracle: Oracle;
}

const never = new AbortController().signal;

/** Asks, and asks again where a daemon ended before it had answered. Throws what the command fails with. */
export const askAtOnce = async (command: Prompt, { house, oracle }: Parts): Promise<void> => {
  switch (command.do) {
    case "exec":
      return askExec(command, { house, oracle });
    case "wait":
      return askWait(command, house);
    case "kill":
      // twice, it would end another run
      return void (await house.ask((core) => killVm(core, command.vm, "SIGKILL")));
    case "image.rm":
      return untilAnswered(house, (core) => removeImage(core, command.image));
    case "tag":
      return untilAnswered(house, async (core) => void (await tagImage(core, { source: command.image, target: command.target })));
    case "prune":
      oracle.prunes();
      return askPrune(command, { house, oracle });
    case "port.add": {
      const request = portRequest.parse({ hostPort: command.hostPort, guestPort: command.guestPort });
      return untilAnswered(house, async (core) => void (await addPort(core, command.vm, { request, signal: never })));
    }
    case "port.rm": {
      const which = removePort.parse({ guestPort: command.guestPort });
      return untilAnswered(house, (core) => removePorts(core, command.vm, { which, signal: never }));
    }
  }
};

const untilAnswered = async (house: House, work: (core: Core) => Promise<void>): Promise<void> => {
  while ((await house.ask(work)) === GONE);
};

const askPrune = async ({ images }: Extract<Prompt, { do: "prune" }>, { house }: Parts): Promise<void> => {
  const report = await house.ask((core, daemon) => prune(core, daemon.usage, pruneRequest.parse({ images })));
  if (report === GONE) return;
  const untyped = report.failures.find(({ error }) => error.code === "INTERNAL");
  if (untyped !== undefined) throw new Violation("code-INTERNAL", `prune of ${untyped.kind} ${untyped.id}: ${untyped.error.detail}`);
};

const askWait = async (command: Extract<Prompt, { do: "wait" }>, house: House): Promise<void> => {
  const ended = await house.leavingAfter(command.leaves, (signal) => house.ask((core) => waitForVm(core, command.vm, { signal })));
  if (ended === null || ended === GONE) return;
  const isOver = ended.state === "exited" || ended.state === "failed";
  if (!isOver) throw new Violation("waited-has-ended", `the VM ${ended.name} was waited for and is ${ended.state}`);
};

/** The same exec id each time, so that what was lost on the way is found and does not run again. */
const askExec = async (command: Extract<Prompt, { do: "exec" }>, { house, oracle }: Parts): Promise<void> => {
  let guest: { readonly vm: string; readonly epoch: number } | null = null;
  for (;;) {
    const answer = await house.leavingAfter(command.leaves, (signal) =>
      house.ask((core) => {
        guest ??= guestOf(core, command.vm);
        return runExec(core, { ...command, ...guest }, signal);
      }),
    );
    if (answer === null) return;
    if (answer === GONE) continue;
    oracle.acknowledgedExec(command.nonce);
    return;
  }
};

/** The daemon says it first of all, and who asks again says it back. */
const guestOf = (core: Core, vm: string): { readonly vm: string; readonly epoch: number } | null => {
  const record = core.vms.find(vm);
  return record?.state === "running" ? { vm: record.id, epoch: record.epoch } : null;
};

/** Its exit code once all of its output has come. Throws a Violation where that is not what the command says. */
export const runExec = async (
  core: Core,
  {
    vm,
    epoch = null,
    nonce,
    seconds,
  }: { readonly vm: string; readonly epoch?: number | null; readonly nonce: string; readonly seconds: number },
  signal: AbortSignal,
): Promise<number | null> => {
  const line = seconds === 0 ? ["echo", nonce] : ["sh", "-c", `sleep ${seconds}; echo ${nonce}`];
  const request = execRequest.parse({ id: nonce, epoch, command: line });
  const stream = await execInVm(core, vm, { request, signal });
  let text = "";
  let isRead = false;
  try {
    for await (const chunk of stream.output) {
      text += new TextDecoder().decode(chunk.bytes);
      stream.acknowledge(chunk.stream === "stderr" ? "stderr" : "stdout", chunk.offset + chunk.bytes.length);
    }
    const exit = await stream.exit;
    isRead = true;
    if (exit.exitCode === 0 && text !== `${nonce}\n`) throw new Violation("exec-output", `${nonce} said ${JSON.stringify(text)}`);
    // it was killed with its guest
    if (exit.exitCode !== 0) throw new KilnError("GUEST_AGENT_PROTOCOL", `${nonce} ended with ${exit.exitCode} ${exit.signal}`);
    return exit.exitCode;
  } finally {
    await stream.leave(isRead);
  }
};
