import { KilnError, isVmId, type VmId } from "@kiln/protocol";
import { type PublishedPort, requireFreePorts } from "../vms/ports.ts";
import { LIVE_STATES, parseVmRecord, type VmRecord } from "../vms/record.ts";
import type { Capacity, Claim, VmChange, VmStore } from "../vms/store.port.ts";
import { type Database, declareWrite, type Run, type Tell } from "./database.ts";
import { vmEvent, vmRemoved } from "./vm-events.ts";

const RESERVE = declareWrite("vm.reserve");
const CHANGE = declareWrite("vm.change");
const CLAIM = declareWrite("vm.claim");
const REMOVE = declareWrite("vm.remove");
const PORTS = declareWrite("vm.ports");

const LIVE = [...LIVE_STATES].map((state) => `'${state}'`).join(", ");
/** The shortest prefix of an id that names a VM. */
const PREFIX_LENGTH = 3;

export class SqliteVmStore implements VmStore {
  readonly #database: Database;
  readonly #onFreed: () => void;
  /** What the records say, parsed once: this process is their only writer. A record is an immutable value. */
  #parsed = new Map<VmId, VmRecord>();
  /** `#parsed` has all records, in the order in which they were made. */
  #hasAll = false;
  /** The answer of list() until the next change. */
  #listed: readonly VmRecord[] | null = null;
  /** What all VMs hold, summed once and kept; null until it is asked for. */
  #held: Held | null = null;
  readonly #slots: Slots;

  /** `onFreed` is called after each change by which a VM gives back what it held. */
  constructor(database: Database, options: { onFreed?: () => void } = {}) {
    this.#database = database;
    this.#onFreed = options.onFreed ?? (() => undefined);
    this.#slots = new Slots(database.all("SELECT slot FROM vms").map((row) => Number(row["slot"])));
  }

  reserve(draft: Omit<VmRecord, "slot">, capacity: { diskBytes: number }): VmRecord {
    const reserved = this.#database.write(RESERVE, (run, tell) => {
      if (this.#database.get("SELECT 1 FROM vms WHERE name = ?", draft.name) !== undefined) {
        throw new KilnError("VM_NAME_TAKEN", `the name ${draft.name} is taken by another VM`, { object: draft.name });
      }
      if (this.#database.get("SELECT 1 FROM rootfs WHERE key = ?", draft.rootfsKey) === undefined) {
        throw new KilnError("IMAGE_NOT_FOUND", `the rootfs of ${draft.image} was removed while the VM was being created`, {
          object: draft.image,
        });
      }
      if (this.#database.get("SELECT 1 FROM kernels WHERE key = ?", draft.kernelKey) === undefined) {
        throw new KilnError("KERNEL_NOT_FOUND", `the kernel ${draft.kernelName} was removed while the VM was being created`, {
          object: draft.kernelName,
        });
      }
      this.#checkDisk(draft, capacity.diskBytes);
      requireFreePorts(draft, draft.ports.length === 0 ? [] : this.list());
      const record: VmRecord = { ...draft, slot: this.#slots.lowestFree() };
      run(
        "INSERT INTO vms (id, name, slot, state, memory_bytes, cpus, disk_bytes, rootfs_key, kernel_key, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ...[
          record.id,
          record.name,
          record.slot,
          record.state,
          record.memoryBytes,
          record.cpus,
          record.diskBytes,
          record.rootfsKey,
          record.kernelKey,
          JSON.stringify(record),
        ],
      );
      tell(vmEvent(null, record));
      return record;
    });
    this.#keep(reserved);
    this.#slots.take(reserved.slot);
    this.#recount(null, reserved);
    return reserved;
  }

  get(id: VmId): VmRecord | null {
    const known = this.#parsed.get(id);
    if (known !== undefined) return known;
    const row = this.#database.get("SELECT record FROM vms WHERE id = ?", id);
    if (row === undefined) return null;
    const record = parseVmRecord(JSON.parse(String(row["record"])));
    this.#parsed.set(id, record);
    return record;
  }

  #keep(record: VmRecord): void {
    this.#parsed.set(record.id, record);
    this.#listed = null;
  }

  find(reference: string): VmRecord | null {
    if (isVmId(reference)) {
      const exact = this.get(reference);
      if (exact !== null) return exact;
    }
    const named = this.#database.get("SELECT id FROM vms WHERE name = ?", reference);
    if (named !== undefined) return this.#read(named);
    if (reference.length < PREFIX_LENGTH || !/^[0-9a-f]+$/.test(reference)) return null;
    const [first, second] = this.#database.all("SELECT id FROM vms WHERE id >= ? AND id < ? LIMIT 2", reference, `${reference}g`);
    return first === undefined || second !== undefined ? null : this.#read(first);
  }

  list(): readonly VmRecord[] {
    if (!this.#hasAll) {
      const all = this.#database.all("SELECT id FROM vms ORDER BY rowid").flatMap((row) => this.#read(row) ?? []);
      this.#parsed = new Map(all.map((record) => [record.id, record]));
      this.#hasAll = true;
    }
    this.#listed ??= [...this.#parsed.values()].reverse();
    return this.#listed;
  }

  #read(row: Record<string, unknown>): VmRecord | null {
    return this.get(String(row["id"]) as VmId);
  }

  reserved(): Held {
    this.#held ??= this.#sumHeld();
    return this.#held;
  }

  #sumHeld(): Held {
    const held = this.#database.get(
      `SELECT COALESCE(SUM(memory_bytes), 0) AS memory, COALESCE(SUM(cpus), 0) AS cpus FROM vms WHERE state IN (${LIVE})`,
    );
    const disks = this.#database.get("SELECT COALESCE(SUM(disk_bytes), 0) AS bytes FROM vms");
    return { memoryBytes: Number(held?.["memory"]), cpus: Number(held?.["cpus"]), diskBytes: Number(disks?.["bytes"]) };
  }

  /** After each commit: what the VM held before goes out of the sum, what it holds now comes in. */
  #recount(before: VmRecord | null, after: VmRecord | null): void {
    if (this.#held === null) return;
    const [less, more] = [heldBy(before), heldBy(after)];
    this.#held = {
      memoryBytes: this.#held.memoryBytes - less.memoryBytes + more.memoryBytes,
      cpus: this.#held.cpus - less.cpus + more.cpus,
      diskBytes: this.#held.diskBytes - less.diskBytes + more.diskBytes,
    };
  }

  change(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][] }): VmRecord {
    const { before, after } = this.#database.write(CHANGE, (run, tell) => {
      const record = this.#require(id, guard.from);
      return { before: record, after: update({ run, tell }, record, change) };
    });
    this.#keep(after);
    this.#recount(before, after);
    if (LIVE_STATES.has(before.state) && !LIVE_STATES.has(after.state)) this.#onFreed();
    return after;
  }

  setPorts(id: VmId, ports: readonly PublishedPort[]): VmRecord {
    const after = this.#database.write(PORTS, (run, tell) => {
      const before = this.get(id);
      if (before === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
      requireFreePorts({ ...before, ports }, this.list());
      return update({ run, tell }, before, { ports: [...ports] });
    });
    this.#keep(after);
    return after;
  }

  claim(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][]; capacity: Capacity }): Claim {
    const { before, claim } = this.#database.write(CLAIM, (run, tell) => {
      const record = this.#require(id, guard.from);
      const refusal = refuse(record, guard.capacity, this.reserved());
      return { before: record, claim: refusal ?? { state: "claimed" as const, record: update({ run, tell }, record, change) } };
    });
    if (claim.state !== "claimed") return claim;
    this.#keep(claim.record);
    this.#recount(before, claim.record);
    return claim;
  }

  #require(id: VmId, from: readonly VmRecord["state"][]): VmRecord {
    const record = this.get(id);
    if (record === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
    if (from.includes(record.state)) return record;
    const needed = `the VM ${record.name} is ${record.state}; this needs it to be ${from.join(" or ")}`;
    throw new KilnError("VM_STATE_CONFLICT", needed, { object: record.name });
  }

  #checkDisk(draft: Omit<VmRecord, "slot">, capacityBytes: number): void {
    const free = capacityBytes - this.reserved().diskBytes;
    if (draft.diskBytes <= free) return;
    throw new KilnError(
      "CAPACITY_EXCEEDED",
      `the VM ${draft.name} may fill a disk of ${mebibytes(draft.diskBytes)}, and ${mebibytes(free)} are not promised yet`,
      { object: draft.name, hint: "give it a smaller --disk, remove VMs, or raise KILN_DISK_BYTES" },
    );
  }

  remove(id: VmId): void {
    const before = this.get(id);
    this.#database.write(REMOVE, (run, tell) => {
      if (run("DELETE FROM vms WHERE id = ?", id) > 0 && before !== null) tell(vmRemoved(before));
    });
    this.#parsed.delete(id);
    this.#listed = null;
    this.#recount(before, null);
    if (before === null) return;
    this.#slots.giveBack(before.slot);
    this.#onFreed();
  }
}

const update = ({ run, tell }: { run: Run; tell: Tell }, before: VmRecord, change: VmChange | Pick<VmRecord, "ports">): VmRecord => {
  const record: VmRecord = { ...before, ...change };
  run("UPDATE vms SET state = ?, record = ? WHERE id = ?", record.state, JSON.stringify(record), record.id);
  if (before.state !== record.state) tell(vmEvent(before, record));
  return record;
};

/** Slots that are taken, from 1. The database's UNIQUE is the truth; this finds the lowest free one without a search. */
class Slots {
  readonly #taken: Set<number>;
  /** None below it is free. */
  #lowest = 1;

  constructor(taken: readonly number[]) {
    this.#taken = new Set(taken);
  }

  lowestFree(): number {
    while (this.#taken.has(this.#lowest)) this.#lowest += 1;
    return this.#lowest;
  }

  take(slot: number): void {
    this.#taken.add(slot);
  }

  giveBack(slot: number): void {
    this.#taken.delete(slot);
    this.#lowest = Math.min(this.#lowest, slot);
  }
}

type Held = Capacity & { readonly diskBytes: number };

const heldBy = (record: VmRecord | null): Held => {
  if (record === null) return { memoryBytes: 0, cpus: 0, diskBytes: 0 };
  const isLive = LIVE_STATES.has(record.state);
  return { memoryBytes: isLive ? record.memoryBytes : 0, cpus: isLive ? record.cpus : 0, diskBytes: record.diskBytes };
};

const mebibytes = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;

/** null where there is room. */
const refuse = (record: VmRecord, total: Capacity, reserved: Capacity): Extract<Claim, { state: "no room" }> | null => {
  const checks = [
    { what: "of memory", wanted: record.memoryBytes, total: total.memoryBytes, held: reserved.memoryBytes, show: mebibytes },
    { what: "CPUs", wanted: record.cpus, total: total.cpus, held: reserved.cpus, show: String },
  ];
  const short = checks.find((check) => check.held + check.wanted > check.total);
  if (short === undefined) return null;
  const { what, wanted, held, show } = short;
  const message = `the VM ${record.name} needs ${show(wanted)} ${what} and ${show(short.total - held)} are free of ${show(short.total)}`;
  const ever = checks.every((check) => check.wanted <= check.total);
  return { state: "no room", ever, error: new KilnError("CAPACITY_EXCEEDED", message, { object: record.name }) };
};
