import type { NetworkSetup } from "@kiln/protocol/wire";
import { randomHex } from "@kiln/std";
import type { BootFiles } from "../pipeline/artifacts.port.ts";
import type { VmmNetwork } from "../vms/driver.port.ts";
import { guestNetwork } from "../vms/guest-network.ts";
import { LIVE_STATES, type VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";

/** What both sides of a VM's NIC are given. */
export interface VmNetwork {
  readonly vmm: VmmNetwork | null;
  readonly guest: NetworkSetup | null;
  readonly resolvConf: string;
}

const NO_NETWORK: VmNetwork = { vmm: null, guest: null, resolvConf: "" };
/** The first byte says: of one station, and given by whoever runs it (IEEE 802). */
const LOCAL_MAC = "02";
const MAC_BYTES = 5;
/** No VM has it while it runs anything of an image. */
const POOL_MAC = "02:00:00:00:00:01";

/** Made in the turn in which the record that names it is reserved, so that no two VMs of a home share one (I17). */
export const mintMac = (core: Pick<Core, "random" | "vms">): string => {
  const taken = new Set(core.vms.list().map(({ network }) => network.mac));
  for (;;) {
    const mac = [LOCAL_MAC, ...(randomHex(core.random, MAC_BYTES).match(/../g) ?? [])].join(":");
    if (!taken.has(mac)) return mac;
  }
};

/** Throws NETWORK_UNAVAILABLE: a VM without the network that it was promised does not start. */
export const openNetwork = async (
  core: Core,
  record: Pick<VmRecord, "network">,
  about: { files: Pick<BootFiles, "networkModules">; signal: AbortSignal },
): Promise<VmNetwork> => {
  const { mode, mac } = record.network;
  if (mode === "none" || mac === null || !core.driver.capabilities.network) return NO_NETWORK;
  const { uplink, resolvConf } = await core.networks.open(mode, { signal: about.signal });
  return { vmm: { mac, uplink }, guest: guestNetwork(mac, about.files.networkModules), resolvConf };
};

/** For a guest that is nobody's yet: the way out that most VMs get, and an address that each replaces by its own. */
export const openPoolNetwork = async (
  core: Core,
  about: { files: Pick<BootFiles, "networkModules">; signal: AbortSignal },
): Promise<VmNetwork> => openNetwork(core, { network: { mode: "user", mac: POOL_MAC } }, about);

/** Whether what VMs share of the host's network is still of use to somebody. */
export const needsNetwork = (record: VmRecord): boolean => record.network.mode === "user" && LIVE_STATES.has(record.state);
