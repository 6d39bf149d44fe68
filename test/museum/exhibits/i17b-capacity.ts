import type { VmId } from "@kiln/protocol";
import { RunAdmission } from "../../../packages/daemon/src/operations/admission.ts";
import type { SqliteVmStore } from "../../../packages/daemon/src/store/vm-store.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor } from "../stage.ts";
import { createRecords, draftOf, MIB } from "../vm-records.ts";

/** Who lets VMs run. Resolves when this one may; what it holds is in its record from then on. */
interface Admission {
  admit(id: VmId, vm: Actor): Promise<void>;
}

const TOTAL = { memoryBytes: 1024 * MIB, cpus: 64 };
const WANTED_BYTES = [512, 256, 768, 512, 1024].map((mib) => mib * MIB);
const NEVER = new AbortController().signal;
const FAILS = 0.3;

const scenario = async (scheduler: Scheduler, vms: SqliteVmStore, admission: Admission): Promise<void> => {
  const run = async (memoryBytes: number, index: number): Promise<void> => {
    const { id, name } = vms.reserve(draftOf(index + 1, { name: `vm-${index + 1}`, memoryBytes }), { diskBytes: 2 ** 50 });
    const vm = new Actor(scheduler, name);
    await vm.step("start");
    await admission.admit(id, vm);
    vm.says(`may run with ${memoryBytes / MIB} MiB`);
    const held = vms.reserved().memoryBytes;
    must(held <= TOTAL.memoryBytes, `${held / MIB} MiB are promised of ${TOTAL.memoryBytes / MIB}`);
    await vm.step("boot");
    const failed = scheduler.dice.chance(FAILS);
    vms.change(id, { state: failed ? "failed" : "exited" }, { from: ["starting"] });
  };
  await Promise.all(WANTED_BYTES.map(run));
  must(vms.reserved().memoryBytes === 0, "memory is held by nobody");
};

/** Computes what is free, asks the host about itself, starts. */
class ReadThenWrite implements Admission {
  readonly #scheduler: Scheduler;
  readonly #vms: SqliteVmStore;

  constructor(scheduler: Scheduler, vms: SqliteVmStore) {
    this.#scheduler = scheduler;
    this.#vms = vms;
  }

  async admit(id: VmId, vm: Actor): Promise<void> {
    const wanted = this.#vms.get(id)?.memoryBytes ?? 0;
    while (this.#vms.reserved().memoryBytes + wanted > TOTAL.memoryBytes) {
      await this.#scheduler.clockOf().sleep(100, { signal: NEVER });
    }
    vm.says("finds that there is room");
    await vm.step("read /proc/meminfo");
    this.#vms.change(id, { state: "starting" }, { from: ["created"] });
  }
}

export const exhibit: Exhibit = {
  id: "I17b",
  title: "Memory that was free when it was counted is promised twice",
  story: [
    "Five starts at once on a host with room for one or two. Each adds up what the running VMs hold, finds room, looks at something else",
    "for a millisecond, and marks itself as starting. All of them saw the same sum: the host is oversold, and the kernel's OOM killer ends",
    "the VM of somebody who did nothing wrong. Others get the sum right and forget to give it back when a start fails.",
    "Order: one sums and finds room; another sums and finds the same room; both start.",
    "Kiln sums, compares and marks in one transaction. Who does not fit waits in turn and holds nothing meanwhile; each change by which",
    "a VM gives memory back, a failed start included, tries the head of the queue again.",
    "Code: `packages/daemon/src/operations/admission.ts`, `packages/daemon/src/store/vm-store.ts`, claim().",
  ],
  complaint: "MiB are promised of 1024",
  kiln: async (scheduler) => {
    let freed = (): void => undefined;
    using records = createRecords({ onFreed: () => freed() });
    const { vms } = records;
    const admission = new RunAdmission(vms, TOTAL);
    freed = () => admission.freed();
    const caller = { caller: "", signal: NEVER, position: () => undefined };
    await scenario(scheduler, vms, {
      admit: async (id) => void (await admission.claim(id, { state: "starting" }, { from: ["created"], caller })),
    });
  },
  naive: async (scheduler) => {
    using records = createRecords();
    await scenario(scheduler, records.vms, new ReadThenWrite(scheduler, records.vms));
  },
};
