import type { KilnError, VmId } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import type { FakeMachine } from "../../../packages/daemon/src/vmm/fake/host.ts";
import { LIVE_STATES, type VmRecord } from "../../../packages/daemon/src/vms/record.ts";
import type { House } from "./house.ts";
import { Violation } from "./violation.ts";

const ENDED: ReadonlySet<VmRecord["state"]> = new Set(["exited", "failed"]);
/** Work that is done once for all who want it. */
const JOINED_WORK: ReadonlySet<string> = new Set(["image.pull", "rootfs.build", "kernel.build", "preboot.build", "blob.fetch"]);
/** Reading the operations takes longer than all other looks together. */
const OPERATIONS_EVERY = 40;

/** How exec ids of clients begin. */
export const NONCE = "n-";

const must = (holds: boolean, check: string, words: () => string): void => {
  if (!holds) throw new Violation(check, words());
};

/** What clients were told, and what has to be true at every step because of it. */
export class Oracle {
  readonly #house: House;
  /** VMs whose creation somebody was told of. */
  readonly #created = new Set<VmId>();
  /** VMs that something may have removed. */
  readonly #mayBeGone = new Set<VmId>();
  /** VMs whose removal somebody was told of. */
  readonly #removed = new Set<VmId>();
  readonly #everEnded = new Set<VmId>();
  /** Commands of clients that have begun in guests. */
  readonly #ran = new Set<string>();
  #pruning = false;
  #seen: readonly VmRecord[] | null = null;
  #seenMachines = -1;
  #looks = 0;
  #outages = 0;

  constructor(house: House) {
    this.#house = house;
  }

  /** Called before each step. Throws a Violation. */
  look(): void {
    this.#looks += 1;
    const { core, outages } = this.#house;
    if (outages > this.#outages) this.#forget(outages);
    if (core === null) return;
    const records = core.vms.list();
    const machines = [...this.#house.world.host.machines];
    const stamp = machines.reduce((sum, { identity }) => sum + identity.pid, machines.length * 1_000_003);
    if (records !== this.#seen || stamp !== this.#seenMachines) {
      this.#lookAtRecords(core, records);
      this.#lookAtMachines(records, machines);
      this.#lookAtBoots(core, records, machines);
      this.#seen = records;
      this.#seenMachines = stamp;
    }
    if (this.#looks % OPERATIONS_EVERY === 0) this.lookAtOperations(core);
  }

  #lookAtRecords(core: Core, records: readonly VmRecord[]): void {
    const names = new Set(records.map(({ name }) => name));
    must(names.size === records.length, "names-unique", () => `two VMs have one name: ${records.map(({ name }) => name).join(", ")}`);
    must(new Set(records.map(({ slot }) => slot)).size === records.length, "slots-unique", () => "two VMs have one slot");
    const live = records.filter(({ state }) => LIVE_STATES.has(state));
    const sum = { memoryBytes: 0, cpus: 0 };
    for (const { memoryBytes, cpus } of live) [sum.memoryBytes, sum.cpus] = [sum.memoryBytes + memoryBytes, sum.cpus + cpus];
    const reserved = core.vms.reserved();
    const isSum = reserved.memoryBytes === sum.memoryBytes && reserved.cpus === sum.cpus;
    must(isSum, "reserved-is-sum", () => `${JSON.stringify(reserved)} is reserved, and the records hold ${JSON.stringify(sum)}`);
    const fits = sum.memoryBytes <= core.capacity.memoryBytes && sum.cpus <= core.capacity.cpus;
    must(fits, "no-oversell", () => `${JSON.stringify(sum)} is reserved of ${JSON.stringify(core.capacity)}`);
    for (const { id, state } of records) if (ENDED.has(state)) this.#everEnded.add(id);
    const ids = new Set(records.map(({ id }) => id));
    for (const id of this.#created) {
      must(
        ids.has(id) || this.#mayGo(id),
        "created-is-listed",
        () => `the VM ${id} was created and is not there, and nobody has removed it`,
      );
    }
    for (const id of this.#removed) must(!ids.has(id), "removed-is-gone", () => `the VM ${id} was removed and is there`);
  }

  #mayGo(id: VmId): boolean {
    return this.#mayBeGone.has(id) || (this.#pruning && this.#everEnded.has(id));
  }

  #lookAtMachines(records: readonly VmRecord[], machines: readonly FakeMachine[]): void {
    const owners = new Map<VmId, number>();
    for (const { spec } of machines) {
      const owner = records.find(({ id, vmm }) => id === spec.id || vmm?.directory === spec.directory);
      if (owner !== undefined) owners.set(owner.id, (owners.get(owner.id) ?? 0) + 1);
      const isNobodys = spec.directory.includes("/pool/") || spec.directory.includes("/staging/");
      must(owner !== undefined || isNobodys, "guest-has-record", () => `a guest of ${spec.id} runs, and no record names it`);
    }
    for (const [id, count] of owners) must(count === 1, "one-guest-per-vm", () => `${count} guests of the VM ${id} run`);
  }

  #lookAtBoots({ boots }: Core, records: readonly VmRecord[], machines: readonly FakeMachine[]): void {
    const booting = machines.filter(({ spec, identity, guest }) => {
      const isStarting = records.some(({ id, state }) => id === spec.id && state === "starting");
      return isStarting && guest.setup === null && identity.pid > this.#house.lastPidBefore;
    });
    must(booting.length <= boots.limit, "boots-limit", () => `${booting.length} boots at once, and the limit is ${boots.limit}`);
  }

  /** Work under a key is one operation, and those who join it say so. */
  lookAtOperations(core: Core): void {
    const seen = new Set<string>();
    for (const { kind, key, joined, id } of core.operations.list({ all: false })) {
      if (!JOINED_WORK.has(kind) || joined !== null) continue;
      const work = `${kind} ${key}`;
      must(!seen.has(work), "work-is-joined", () => `${work} runs twice at once; ${id} is one of them`);
      seen.add(work);
    }
  }

  created(id: VmId, { autoRemove }: { autoRemove: boolean }): void {
    if (autoRemove) this.#mayBeGone.add(id);
    this.#created.add(id);
    this.#seen = null;
  }

  mayGo(id: VmId): void {
    this.#mayBeGone.add(id);
  }

  removed(id: VmId): void {
    this.#mayBeGone.add(id);
    this.#removed.add(id);
    this.#seen = null;
  }

  /** From here on VMs that have ended may go. */
  prunes(): void {
    this.#pruning = true;
  }

  /** The power has failed: what was told of the last moments may not be so any more. */
  #forget(outages: number): void {
    this.#outages = outages;
    this.#created.clear();
    this.#removed.clear();
    this.#seen = null;
  }

  /** A client's command begins once, in whichever guest; those of VMs and of the pool are each guest's own. */
  ran(id: string): void {
    if (!id.startsWith(NONCE)) return;
    must(!this.#ran.has(id), "exec-once", () => `the command ${id} has begun twice`);
    this.#ran.add(id);
  }

  acknowledgedExec(id: string): void {
    must(this.#ran.has(id), "exec-acknowledged", () => `the command ${id} was answered and never ran`);
  }

  failure(error: KilnError, allowed: ReadonlySet<string>, words: string): void {
    must(allowed.has(error.code), `code-${error.code}`, () => `${words} failed with ${error.code}: ${error.message}`);
  }
}
