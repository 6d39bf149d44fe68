import type { NetworkMode } from "@kiln/protocol";
import type { VmmUplink } from "./driver.port.ts";

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
