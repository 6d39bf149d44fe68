import type { GuestConnection } from "./agent.port.ts";
import type { HostAddress } from "./ports.ts";

/** The guest's side of one connection from outside, or of one peer that sends datagrams. It may wait for its guest; aborted when the client has gone. */
export type DialGuest = (options: { signal: AbortSignal }) => Promise<GuestConnection>;

/** An address of the host that leads into a guest. Disposal closes it and breaks off its connections. */
export interface OpenPort extends AsyncDisposable {
  /** The one that was asked for, or chosen by the host. */
  readonly hostPort: number;
}

/** Sockets of the host that lead into guests. */
export interface PortForwarder {
  /**
   * Listens from its return on; port 0: at a free one. Throws PORT_IN_USE where another process has the address, PORT_UNAVAILABLE
   * where the host has no such address, PERMISSION_DENIED.
   */
  open(at: HostAddress, dial: DialGuest): Promise<OpenPort>;
}
