/**
 * The addresses in the egress namespace, from a range that was withdrawn from use (RFC 7526) and so is nobody's: they are
 * seen by pasta and by the VMMs, never by a network.
 */
export const PLAN = {
  interface: "uplink",
  network: "192.88.99.0/24",
  gateway: "192.88.99.1",
  gatewayMac: "02:00:00:00:00:01",
  address: "192.88.99.2",
  /** pasta sends what comes for this address to the host's resolver, also where that is on the host's loopback. */
  resolver: "192.88.99.3",
  /** Of the uplink: the host cuts it to its own. */
  mtu: 65_520,
} as const;

/** Asked before every other table, by the namespace's own programs only. */
const CLOSED_TABLE = 10;

/** Closed whatever the host has. Each is a way to the host itself, to its neighbours on a link, or to who lends the host its identity. */
const CLOSED: readonly string[] = [
  "0.0.0.0/8", // this host
  "127.0.0.0/8",
  "169.254.0.0/16", // link-local, and the metadata of most clouds
  "168.63.129.16/32", // Azure's
  "100.100.100.200/32", // Alibaba's
  "192.0.0.192/32", // Oracle's
  "224.0.0.0/4", // a multicast of one VM comes back to the sockets of the others
  "240.0.0.0/4", // reserved, and broadcast
  PLAN.network,
];

/** Commands of `ip -batch` that close a fresh namespace. With them nothing is open, and no uplink there. */
export const closeCommands = (): readonly string[] => [
  // the table of local addresses moves behind the one of what is closed; the uplink's answers still come in by it
  `rule add pref 32 lookup local`,
  `rule del pref 0 lookup local`,
  `rule add pref 10 iif lo lookup ${CLOSED_TABLE}`,
  ...CLOSED.map((prefix) => `route add prohibit ${prefix} table ${CLOSED_TABLE}`),
  `route add throw ${PLAN.resolver}/32 table ${CLOSED_TABLE}`,
];

/** The host's own addresses, so that what listens on all of them is not found through one of them. */
export const closeHostCommands = (prefixes: Iterable<string>): readonly string[] =>
  [...prefixes].map((prefix) => `route replace prohibit ${prefix} table ${CLOSED_TABLE}`);

export const openHostCommands = (prefixes: Iterable<string>): readonly string[] =>
  [...prefixes].map((prefix) => `route del prohibit ${prefix} table ${CLOSED_TABLE}`);

/**
 * Brings up the uplink that pasta has made. The gateway is the only neighbour, and no other is ever asked for: a VMM that a
 * guest has taken over and that binds its sockets to the interface, so that no route counts, finds nobody there.
 */
export const uplinkCommands = (mac: string): readonly string[] => [
  `link set lo down`,
  `link set ${PLAN.interface} address ${mac} mtu ${PLAN.mtu} addrgenmode none`,
  `ntable change name arp_cache dev ${PLAN.interface} ucast_probes 0 mcast_probes 0 app_probes 0`,
  `neigh replace ${PLAN.gateway} lladdr ${PLAN.gatewayMac} nud permanent dev ${PLAN.interface}`,
  `addr add ${PLAN.address}/32 dev ${PLAN.interface}`,
  `link set ${PLAN.interface} up`,
  `route replace default via ${PLAN.gateway} dev ${PLAN.interface} onlink`,
];

/** What follows the host's addresses while no daemon does: the lines of `ip -o monitor address`, one by one. */
export const FOLLOW_HOST = [
  `while read -r line; do`,
  `set -f; set -- $line; action=replace`,
  `if [ "$1" = Deleted ]; then action=del; shift; fi`,
  `[ "$3" = inet ] && ip route $action prohibit "\${4%/*}" table ${CLOSED_TABLE}`,
  `done`,
].join("\n");
