import { KilnError, type OperationWait, type VmId } from "@kiln/protocol";
import { FairGate, QueueFullError } from "@kiln/std";
import type { VmRecord } from "../vms/record.ts";
import type { Capacity, VmChange, VmStore } from "../vms/store.port.ts";
import type { OperationContext } from "./operation.ts";

/** Past it a caller is told to come back later. */
const QUEUE_LIMIT = 1024;

type Caller = Pick<OperationContext, "caller" | "signal" | "position">;

/** Waits in a queue whose place the operation shows; out of it again whatever happens. */
const waitIn = async <Result>(
  { gate, name }: { gate: FairGate; name: OperationWait["for"] },
  attempt: () => Result | null,
  caller: Caller,
): Promise<Result> => {
  try {
    return await gate.admit(attempt, {
      ...{ caller: caller.caller, signal: caller.signal },
      onPosition: (place) => caller.position(place, name),
    });
  } catch (error) {
    if (!(error instanceof QueueFullError)) throw error;
    throw new KilnError("QUEUE_FULL", `${error.maxWaiters} requests wait already`, { cause: error });
  } finally {
    caller.position(null, name);
  }
};

/** Memory and CPUs of VMs that run or start: reserved at the decision, in the transaction that makes it (I17). */
export class RunAdmission {
  readonly #gate = new FairGate({ maxWaiters: QUEUE_LIMIT });
  readonly #vms: VmStore;
  readonly #capacity: Capacity;

  constructor(vms: VmStore, capacity: Capacity) {
    this.#vms = vms;
    this.#capacity = capacity;
  }

  get waiting(): number {
    return this.#gate.waiting;
  }

  /**
   * Applies the change that makes a VM one that runs, once there is room for it. Throws CAPACITY_EXCEEDED where there
   * never is, QUEUE_FULL, and what the store throws.
   */
  async claim(id: VmId, change: VmChange, options: { from: readonly VmRecord["state"][]; caller: Caller }): Promise<VmRecord> {
    const { from, caller } = options;
    const attempt = (): VmRecord | null => {
      const claimed = this.#vms.claim(id, change, { from, capacity: this.#capacity });
      if (claimed.state === "no room" && !claimed.ever) throw claimed.error;
      return claimed.state === "claimed" ? claimed.record : null;
    };
    return waitIn({ gate: this.#gate, name: "capacity" }, attempt, caller);
  }

  /** A VM has given back what it held. */
  freed(): void {
    this.#gate.retry();
  }
}

/** Boots that run at once: each is a core's work. */
export class BootAdmission {
  readonly #gate = new FairGate({ maxWaiters: QUEUE_LIMIT });
  readonly limit: number;
  #active = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#gate.waiting;
  }

  async acquire(caller: Caller): Promise<Disposable> {
    return waitIn({ gate: this.#gate, name: "boot" }, () => this.#take(), caller);
  }

  #take(): Disposable | null {
    if (this.#active >= this.limit) return null;
    this.#active += 1;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#active -= 1;
        this.#gate.retry();
      },
    };
  }
}
