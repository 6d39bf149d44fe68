import { KilnError } from "@kiln/protocol";
import type { DialGuest, OpenPort, PortForwarder } from "../../../packages/daemon/src/vms/forward.port.ts";
import { addressText, type HostAddress } from "../../../packages/daemon/src/vms/ports.ts";
import type { Life } from "../life.ts";
import type { Troubles } from "./faults.ts";

const FIRST_FREE = 40_000;

/** The addresses of the simulated host: who listens at each, and how a client gets into a guest there. */
export class SimPorts {
  readonly #open = new Map<string, { readonly life: Life; readonly dial: DialGuest }>();

  /** As one daemon opens them; its end closes them. */
  forwarderFor({ life, troubles }: { life: Life; troubles: Troubles }): PortForwarder {
    life.atEnd(() => {
      for (const [address, one] of this.#open) if (one.life === life) this.#open.delete(address);
    });
    return {
      open: async (at, dial) => {
        await troubles.step("port.open", life);
        if (troubles.happens("port")) throw inUse(at);
        return this.#listen(at, { life, dial, troubles });
      },
    };
  }

  #listen(at: HostAddress, { life, dial, troubles }: { life: Life; dial: DialGuest; troubles: Troubles }): OpenPort {
    const hostPort = at.hostPort === 0 ? this.#free(at) : at.hostPort;
    const address = addressText({ ...at, hostPort });
    if (this.#open.has(address)) throw inUse(at);
    const mine = { life, dial };
    this.#open.set(address, mine);
    return {
      hostPort,
      [Symbol.asyncDispose]: async () => {
        await troubles.step("port.close", life);
        if (this.#open.get(address) === mine) this.#open.delete(address);
      },
    };
  }

  #free(at: HostAddress): number {
    for (let hostPort = FIRST_FREE; ; hostPort += 1) if (!this.#open.has(addressText({ ...at, hostPort }))) return hostPort;
  }

  /** Addresses at which somebody listens: "127.0.0.1:8080/tcp". */
  list(): readonly string[] {
    return [...this.#open.keys()].sort();
  }

  /** How whoever connects to an address gets into a guest; null where nobody listens. */
  dialAt(address: string): DialGuest | null {
    return this.#open.get(address)?.dial ?? null;
  }
}

const inUse = (at: HostAddress): KilnError => new KilnError("PORT_IN_USE", `${addressText(at)} is taken`, { object: addressText(at) });
