import { KilnError, isVmId, type VmId } from "@kiln/protocol";
import { LIVE_STATES, parseVmRecord, type VmRecord } from "../vms/record.ts";
import type { VmChange, VmStore } from "../vms/store.port.ts";
import type { Database } from "./database.ts";

const LIVE = [...LIVE_STATES].map((state) => `'${state}'`).join(", ");
/** The shortest prefix of an id that names a VM. */
const PREFIX_LENGTH = 3;

const parseRow = (row: Record<string, unknown>): VmRecord => parseVmRecord(JSON.parse(String(row["record"])));

export class SqliteVmStore implements VmStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  reserve(draft: Omit<VmRecord, "slot">): VmRecord {
    return this.#database.transaction(() => {
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
      const record: VmRecord = { ...draft, slot: this.#freeSlot() };
      this.#database.run(
        "INSERT INTO vms (id, name, slot, state, memory_bytes, rootfs_key, kernel_key, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ...[
          record.id,
          record.name,
          record.slot,
          record.state,
          record.memoryBytes,
          record.rootfsKey,
          record.kernelKey,
          JSON.stringify(record),
        ],
      );
      return record;
    });
  }

  #freeSlot(): number {
    const row = this.#database.get(
      "SELECT MIN(candidate) AS slot FROM (SELECT 1 AS candidate UNION ALL SELECT slot + 1 FROM vms) WHERE candidate NOT IN (SELECT slot FROM vms)",
    );
    return Number(row?.["slot"]);
  }

  get(id: VmId): VmRecord | null {
    const row = this.#database.get("SELECT record FROM vms WHERE id = ?", id);
    return row === undefined ? null : parseRow(row);
  }

  find(reference: string): VmRecord | null {
    if (isVmId(reference)) {
      const exact = this.get(reference);
      if (exact !== null) return exact;
    }
    const named = this.#database.get("SELECT record FROM vms WHERE name = ?", reference);
    if (named !== undefined) return parseRow(named);
    if (reference.length < PREFIX_LENGTH || !/^[0-9a-f]+$/.test(reference)) return null;
    const [first, second] = this.#database.all("SELECT record FROM vms WHERE id >= ? AND id < ? LIMIT 2", reference, `${reference}g`);
    return first === undefined || second !== undefined ? null : parseRow(first);
  }

  list(): readonly VmRecord[] {
    return this.#database.all("SELECT record FROM vms ORDER BY rowid DESC").map(parseRow);
  }

  reservedMemoryBytes(): number {
    return Number(this.#database.get(`SELECT COALESCE(SUM(memory_bytes), 0) AS bytes FROM vms WHERE state IN (${LIVE})`)?.["bytes"]);
  }

  change(id: VmId, change: VmChange, guard: { from: readonly VmRecord["state"][]; capacityBytes?: number }): VmRecord {
    return this.#database.transaction(() => {
      const record = this.get(id);
      if (record === null) throw new KilnError("VM_NOT_FOUND", `there is no VM ${id}`, { object: id });
      if (!guard.from.includes(record.state)) {
        throw new KilnError(
          "VM_STATE_CONFLICT",
          `the VM ${record.name} is ${record.state}; this needs it to be ${guard.from.join(" or ")}`,
          {
            object: record.name,
          },
        );
      }
      if (guard.capacityBytes !== undefined) this.#checkCapacity(record, guard.capacityBytes);
      const changed: VmRecord = { ...record, ...change };
      this.#database.run("UPDATE vms SET state = ?, record = ? WHERE id = ?", changed.state, JSON.stringify(changed), id);
      return changed;
    });
  }

  #checkCapacity(record: VmRecord, capacityBytes: number): void {
    const reserved = this.reservedMemoryBytes();
    if (reserved + record.memoryBytes <= capacityBytes) return;
    const [wanted, free] = [record.memoryBytes, capacityBytes - reserved].map((bytes) => `${Math.floor(bytes / 2 ** 20)} MiB`);
    throw new KilnError("CAPACITY_EXCEEDED", `the VM ${record.name} needs ${wanted} of memory and ${free} are free`, {
      object: record.name,
    });
  }

  remove(id: VmId): void {
    this.#database.run("DELETE FROM vms WHERE id = ?", id);
  }
}
