import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { Command, Program } from "./program.ts";
import type { RunOptions } from "./run-program.ts";

/** A core with one defect, a program that can show it, and the checks that do. */
export interface Broken extends RunOptions {
  readonly checks: readonly string[];
  readonly program: Program;
}

const setting = { vms: 3, bootsLimit: 1, bootMs: 10, preboot: false, pool: false, faults: {}, badBoots: 0 };
const asked = { wait: true, key: null };

const create = (name: string, image = "registry.test/one"): Command => ({
  ...{ do: "create", name, image, pull: "missing", start: true, seconds: 3_600, autoRemove: false, size: 1, hostPort: null },
  ...{ network: "none", ...asked },
});

/** Clients that start, stop and remove one VM at once. */
const ONE_VM: Program = {
  setting,
  clients: [
    [create("a"), { do: "stop", vm: "a", timeoutMs: 0, ...asked }, { do: "start", vm: "a", ...asked }],
    [create("a"), { do: "start", vm: "a", ...asked }, { do: "rm", vm: "a", force: true, ...asked }],
    [{ do: "start", vm: "a", ...asked }, create("a"), { do: "start", vm: "a", ...asked }],
  ],
  fates: [],
};
/** Three VMs of two images boot at once, while somebody tidies up. */
const THREE_VMS: Program = {
  setting,
  clients: [
    [create("a")],
    [create("b", "registry.test/two")],
    [create("c"), { do: "image.rm", image: "registry.test/one" }],
    [
      { do: "prune", images: true },
      { do: "image.rm", image: "registry.test/two" },
      { do: "prune", images: true },
    ],
  ],
  fates: [],
};
const BAD_BOOTS: Program = { ...ONE_VM, setting: { ...setting, badBoots: 0.5 } };
const POWER_LOSS: Program = { ...ONE_VM, fates: [{ do: "power.loss", after: 120, down: 0 }] };

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
    program: ONE_VM,
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
    program: ONE_VM,
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
    program: BAD_BOOTS,
    checks: ["no-end", "code-VM_STATE_CONFLICT"],
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
    program: THREE_VMS,
    checks: ["boots-limit"],
    breakCore: (core) => ({ ...core, boots: replaced(core.boots, { acquire: async () => nothing() }) }),
  },
  "an fsync that a publish leaves out": {
    program: POWER_LOSS,
    checks: ["published-is-whole", "code-LAYER_INVALID", "code-IMAGE_INVALID"],
    breakWorld: ({ disk }) => {
      disk.sync = () => undefined;
    },
  },
  "a sweep that does not ask for leases": {
    program: THREE_VMS,
    checks: [
      "code-INTERNAL",
      "code-IMAGE_NOT_FOUND",
      "code-IMAGE_CONTENT_MISSING",
      "code-ARTIFACT_DAMAGED",
      "published-is-whole",
      "no-end",
    ],
    breakCore: (core) => ({ ...core, leases: replaced(core.leases, { isHeld: () => false, isLeased: () => false }) }),
  },
  "a removal that is answered when it begins": {
    program: ONE_VM,
    checks: ["removed-is-gone"],
    breakCore: (core) => ({ ...core, operations: replaced(core.operations, { wait: waitNotForRemovals(core) }) }),
  },
};

const waitNotForRemovals =
  ({ operations }: Core): Core["operations"]["wait"] =>
  async (id, options) => {
    const view = operations.get(id);
    return view.kind === "vm.delete" ? { ...view, state: "succeeded", finishedAt: view.startedAt } : operations.wait(id, options);
  };
