import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { RunOptions } from "./run-program.ts";

/** A core with one defect, and the checks that show it. */
export interface Broken extends RunOptions {
  readonly checks: readonly string[];
}

/** The same object with some members replaced. */
const replaced = <Target extends object>(target: Target, members: Partial<Target>): Target =>
  new Proxy(target, {
    get: (_, name) => {
      if (Object.hasOwn(members, name)) return Reflect.get(members, name) as unknown;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });

const nothing = (): Disposable => ({ [Symbol.dispose]: () => undefined });

export const BROKEN: Readonly<Record<string, Broken>> = {
  "a VM's lock that is not taken": {
    checks: [
      "one-guest-per-vm",
      "guest-has-record",
      "code-INTERNAL",
      "code-VM_STATE_CONFLICT",
      "state-is-true",
      "stopped-has-ended",
      "removed-is-gone",
    ],
    breakCore: (core) => ({ ...core, vmLocks: replaced(core.vmLocks, { acquire: async () => nothing() }) }),
  },
  "a VM's record that goes before its guest": {
    checks: ["guest-has-record"],
    breakCore: (core) => ({
      ...core,
      vms: replaced(core.vms, {
        change: (id, change, guard) => {
          const changed = core.vms.change(id, change, guard);
          if (change.state === "deleting") core.vms.remove(id);
          return changed;
        },
      }),
    }),
  },
  "a failed start that keeps what it has reserved": {
    checks: ["no-end"],
    breakCore: (core) => ({
      ...core,
      vms: replaced(core.vms, {
        change: (id, change, guard) => {
          const record = core.vms.get(id);
          return change.state === "failed" && record?.state === "starting" ? record : core.vms.change(id, change, guard);
        },
      }),
    }),
  },
  "boots without a limit": {
    checks: ["boots-limit"],
    breakCore: (core) => ({ ...core, boots: replaced(core.boots, { acquire: async () => nothing() }) }),
  },
  "an fsync that a publish leaves out": {
    checks: ["published-is-whole"],
    breakWorld: ({ disk }) => {
      disk.sync = () => undefined;
    },
  },
  "a sweep that does not ask for leases": {
    checks: ["code-INTERNAL", "code-IMAGE_NOT_FOUND", "code-ARTIFACT_DAMAGED", "published-is-whole", "no-end"],
    breakCore: (core) => ({ ...core, leases: replaced(core.leases, { isHeld: () => false, isLeased: () => false }) }),
  },
  "a removal that is answered when it begins": {
    checks: ["removed-is-gone"],
    breakCore: (core) => ({ ...core, operations: replaced(core.operations, { wait: waitNotForRemovals(core) }) }),
  },
};

const waitNotForRemovals =
  ({ operations }: Core): Core["operations"]["wait"] =>
  async (id, options) => {
    const view = operations.get(id);
    return view.kind === "vm.delete" ? { ...view, state: "succeeded" } : operations.wait(id, options);
  };
