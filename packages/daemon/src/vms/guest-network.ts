import type { NetworkSetup } from "@kiln/protocol/wire";

/** What a guest gives its NIC. Each VM is alone on its link, so that all may have the same. */
export const GUEST_NETWORK = {
  network: "10.0.2.0/24",
  prefixBits: 24,
  address: "10.0.2.15",
  gateway: "10.0.2.2",
  /** Answers with the host's own resolvers, seen from where the VMM runs. */
  resolver: "10.0.2.3",
} as const;

/** `modules`: the NIC's drivers, where the guest does not have them yet. */
export const guestNetwork = (mac: string, modules: readonly string[]): NetworkSetup => ({
  modules,
  mac: Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16)),
  address: toBytes(GUEST_NETWORK.address),
  prefixBits: GUEST_NETWORK.prefixBits,
  gateway: toBytes(GUEST_NETWORK.gateway),
});

const toBytes = (address: string): Uint8Array => Uint8Array.from(address.split("."), Number);
