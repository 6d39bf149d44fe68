import { duplexPair, type Duplex } from "node:stream";
import { asKilnError, KilnError } from "@kiln/protocol";
import { Deferred } from "@kiln/std";
import { QmpClient } from "../../../packages/daemon/src/vmm/qemu/qmp.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { patient } from "../cable.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Speaks to a VMM's monitor. */
interface Monitor {
  run(command: string): Promise<unknown>;
}

/** What a scripted QEMU says to each command; null: it succeeds. */
const WORDS: ReadonlyMap<string, string | null> = new Map([
  ["device_add", "Bus 'pci.0' does not support hotplugging"],
  ["migrate", "State blocked by non-migratable device '0000:00:04.0/ivshmem'"],
  ["query-status", null],
  ["cont", "Resetting the Virtual Machine is required"],
]);
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, open: (channel: Duplex) => Promise<Monitor>): Promise<void> => {
  const [host, qemu] = duplexPair();
  void serve(scheduler, qemu);
  const monitor = await open(host);
  const ask = async ([command, words]: readonly [string, string | null]): Promise<void> => {
    const client = new Actor(scheduler, command);
    await client.step("asks");
    const outcome = await outcomeOf(monitor.run(command));
    client.says(outcome.ok ? "succeeds" : `fails: ${outcome.error.message}`);
    must(
      outcome.ok === (words === null),
      `QEMU said ${JSON.stringify(words ?? "ok")} of ${command}, and its user is told that it ${outcome.ok ? "succeeded" : "failed"}`,
    );
    if (words === null) return;
    const said = asKilnError(outcome.ok ? null : outcome.error).message;
    must(said.includes(words), `QEMU said "${words}" of ${command}, and its user reads "${said}"`);
  };
  await Promise.all([...WORDS].map(ask));
  qemu.destroy();
};

/** A QEMU that answers each command when its turn has come, in pieces, with events between. */
const serve = async (scheduler: Scheduler, channel: Duplex): Promise<void> => {
  const qemu = new Actor(scheduler, "qemu");
  const say = async (message: object): Promise<void> => {
    await qemu.step("says");
    channel.write(`${JSON.stringify(message)}\r\n`);
  };
  const answer = async ({ execute, id }: { execute: string; id?: number }): Promise<void> => {
    const desc = WORDS.get(execute) ?? null;
    if (scheduler.dice.chance(0.3)) await say({ event: "RTC_CHANGE", data: { offset: 1 } });
    await say(desc === null ? { return: {}, id } : { error: { class: "GenericError", desc }, id });
  };
  let text = "";
  channel.on("data", (bytes: Uint8Array) => {
    text += new TextDecoder().decode(bytes);
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) void answer(JSON.parse(line) as { execute: string; id?: number });
  });
  await say({ QMP: { version: {}, capabilities: [] } });
};

/** One command, the next message is its answer; an error is an error. */
const openNaive = async (channel: Duplex): Promise<Monitor> => {
  const waiting: Deferred<Record<string, unknown>>[] = [];
  let text = "";
  const next = (): Promise<Record<string, unknown>> => {
    const message = new Deferred<Record<string, unknown>>();
    waiting.push(message);
    return message.promise;
  };
  channel.on("data", (bytes: Uint8Array) => {
    text += new TextDecoder().decode(bytes);
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) waiting.shift()?.resolve(JSON.parse(line) as Record<string, unknown>);
  });
  const run = async (command: string): Promise<unknown> => {
    channel.write(`${JSON.stringify({ execute: command })}\n`);
    const answer = await next();
    if ("error" in answer) throw new KilnError("VMM_FAILED", `${command}: 400 Bad Request`);
    return answer["return"];
  };
  await next();
  await run("qmp_capabilities");
  return { run };
};

export const exhibit: Exhibit = {
  id: "I20",
  title: "The VMM said what was wrong, and its user reads 400",
  story: [
    "The client of a VMM's socket turns every refusal into its status: `400 Bad Request`, `GenericError`. What the VMM said, which names",
    "the device, the file, the limit, is in a body that nobody read, and its user turns to strace. The same clients take the next message",
    "for the answer to their last command; where commands overlap or an event comes between, one is told of another's failure.",
    "Order: two commands; the second is answered first, or an event comes; each error is given to the wrong one, without its words.",
    "Kiln's commands have ids, each answer finds the command that it is for, events go their own way, and what is thrown is VMM_FAILED",
    "with the command, the VMM's class of error and its own sentence.",
    "Code: `packages/daemon/src/vmm/qemu/qmp.ts`.",
  ],
  complaint: "QEMU said",
  kiln: (scheduler) =>
    scenario(scheduler, async (channel) => {
      const options = { clock: patient(scheduler.clockOf()), signal, onEvent: () => undefined };
      const client = await QmpClient.open(channel, options);
      return { run: (command) => client.run(command, {}, { signal }) };
    }),
  naive: (scheduler) => scenario(scheduler, openNaive),
};
