import type { NetworkMode } from "@kiln/protocol";
import type { VmmUplink } from "./driver.port.ts";

/** What a guest gives its NIC. Each VM is alone on its link, so that all may have the same. */
export const GUEST_NETWORK = {
  network: "10.0.2.0/24",
  prefixBits: 24,
  address: "10.0.2.15",
  gateway: "10.0.2.2",
  /** Answers with the host's own resolvers, seen from where the VMM runs. */
  resolver: "10.0.2.3",
} as const;

/** A mode that leads somewhere. */
export type ConnectedMode = Exclude<NetworkMode, "none">;

export interface OpenNetwork {
  readonly uplink: VmmUplink;
  /** The guest's /etc/resolv.conf. */
  readonly resolvConf: string;
}

/** Where the packets of VMs go. */
export interface VmNetworks {
  /**
   * Makes what VMs of this mode share where it is not there, and looks whether it still works; the work is done once for
   * all who ask. Throws NETWORK_UNAVAILABLE.
   */
  open(mode: ConnectedMode, options: { signal: AbortSignal }): Promise<OpenNetwork>;
  /**
   * At the daemon's start: takes over what an earlier daemon left if VMs still need it, and ends it otherwise. Says how
   * many processes were ended.
   */
  reconcile(options: { needed: boolean; signal: AbortSignal }): Promise<number>;
  /** Ends what VMs share; none of them may run any more. Idempotent. */
  close(): Promise<void>;
}
