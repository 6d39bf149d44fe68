/** What a home knows of a scenario that has failed in it. */
import type { OperationView, VmView } from "@kiln/protocol";
import type { Cli } from "./cli.ts";
import { OPERATIONS_SHOWN, TAIL_LINES } from "./limits.ts";
import { describeError } from "./runner.ts";

/** What is a scenario's own in a home that others use; null: all of it is. */
export type OwnNames = { readonly vms: readonly string[]; readonly images: readonly string[] } | null;

/** Its VMs with their consoles, the phases of its operations, and the daemon's last words. What cannot be had says why. */
export const explainHome = async (kiln: Cli, names: OwnNames): Promise<string> => {
  const parts = [`in ${kiln.home.path}:`];
  const add = async (title: string, find: () => Promise<string>): Promise<void> => {
    try {
      const text = (await find()).trimEnd();
      parts.push(`--- ${title}`, text === "" ? "(nothing)" : text);
    } catch (error) {
      parts.push(`--- ${title}: ${describeError(error)}`);
    }
  };
  let vms: readonly VmView[] = [];
  await add("VMs", async () => {
    vms = (await kiln.json<VmView[]>("ps", "-a")).filter(({ name }) => names === null || names.vms.includes(name));
    return vms.map((vm) => JSON.stringify(vm)).join("\n");
  });
  await add("operations", async () => describeOperations(await kiln.json<OperationView[]>("op", "ls", "-a"), names));
  for (const { name, id } of vms) {
    await add(`what ${name} wrote`, async () => lastLines((await kiln.run(["logs", id])).stdout));
    await add(`console of ${name}`, async () => lastLines((await kiln.run(["logs", "--console", id])).stdout));
  }
  await add("the daemon's log", async () => lastLines(await kiln.home.daemonLog()));
  return parts.join("\n");
};

const describeOperations = (operations: readonly OperationView[], names: OwnNames): string =>
  operations
    .filter(({ subject }) => names === null || names.vms.includes(subject) || names.images.some((image) => subject.includes(image)))
    .slice(0, OPERATIONS_SHOWN)
    .map(({ id, kind, subject, state, phase, phases, waits, error }) =>
      JSON.stringify({ id, kind, subject, state, phase, phases, waits, error }),
    )
    .join("\n");

const lastLines = (text: string): string => text.trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
