import type { Clock } from "@kiln/std";
import type { DialGuest, OpenPort, PortForwarder } from "../vms/forward.port.ts";
import type { HostAddress } from "../vms/ports.ts";
import { TcpPort } from "./tcp-port.ts";
import { UdpPort } from "./udp-port.ts";

/** Published ports as sockets of this process. */
export class SocketForwarder implements PortForwarder {
  readonly #clock: Clock;

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
  }

  open(at: HostAddress, dial: DialGuest): Promise<OpenPort> {
    return at.protocol === "tcp" ? TcpPort.open(at, dial) : UdpPort.open(at, dial, { clock: this.#clock });
  }
}
