import { BlockList, isIP, isIPv4 } from "node:net";

/**
 * Where an address leads (RFC 6890 and the IANA registries of special-purpose addresses). `metadata` are the addresses
 * at which clouds hand secrets to whoever asks from within.
 */
export type AddressScope =
  | "public"
  | "loopback"
  | "private"
  | "carrier"
  | "link-local"
  | "metadata"
  | "multicast"
  | "unspecified"
  | "reserved";

/** The first that fits counts. */
const RANGES: readonly (readonly [AddressScope, readonly string[]])[] = [
  ["metadata", ["169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128"]],
  ["unspecified", ["0.0.0.0/8", "::/128"]],
  ["loopback", ["127.0.0.0/8", "::1/128"]],
  ["link-local", ["169.254.0.0/16", "fe80::/10"]],
  ["private", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"]],
  ["carrier", ["100.64.0.0/10"]],
  ["multicast", ["224.0.0.0/4", "ff00::/8"]],
  ["reserved", ["192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b:1::/48", "100::/64"]],
];

/** Prefixes of IPv6 after which an IPv4 address follows: mapped, compatible, NAT64, 6to4; with the byte where it begins. */
const EMBEDDED: readonly (readonly [string, number])[] = [
  ["::ffff:0:0/96", 12],
  ["::/96", 12],
  ["64:ff9b::/96", 12],
  ["2002::/16", 2],
];

const listOf = (ranges: readonly string[]): BlockList => {
  const list = new BlockList();
  for (const range of ranges) {
    const [network = "", prefix = ""] = range.split("/");
    list.addSubnet(network, Number(prefix), isIPv4(network) ? "ipv4" : "ipv6");
  }
  return list;
};

const LISTS = RANGES.map(([scope, ranges]) => ({ scope, list: listOf(ranges) }));
const EMBEDDED_LISTS = EMBEDDED.map(([range, at]) => ({ list: listOf([range]), at }));

/** The scope of an address in text, with or without brackets or a zone. What is no address is `reserved`. */
export const addressScope = (text: string): AddressScope => {
  const address = text.replace(/^\[(.*)\]$/, "$1").replace(/%.*$/, "");
  const family = isIP(address);
  if (family === 0) return "reserved";
  const type = family === 4 ? "ipv4" : "ipv6";
  const own = LISTS.find(({ list }) => list.check(address, type))?.scope;
  if (own !== undefined || family === 4) return own ?? "public";
  const embedded = EMBEDDED_LISTS.find(({ list }) => list.check(address, "ipv6"));
  return embedded === undefined ? "public" : addressScope(embeddedAddress(address, embedded.at));
};

const embeddedAddress = (address: string, at: number): string => {
  const bytes = ipv6Groups(address).flatMap((group) => [group >> 8, group & 0xff]);
  return bytes.slice(at, at + 4).join(".");
};

/** The eight groups; the address is known to be one. A tail in dots is two of them. */
const ipv6Groups = (address: string): readonly number[] => {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const plain =
    dotted === null
      ? address
      : `${dotted[1]}${(Number(dotted[2]) * 256 + Number(dotted[3])).toString(16)}:${(Number(dotted[4]) * 256 + Number(dotted[5])).toString(16)}`;
  const [head = "", tail] = plain.split("::");
  const groups = (part: string): readonly number[] => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
};

/** Scopes in which a registry may point to its neighbours. */
const NEIGHBOURHOODS: readonly AddressScope[] = ["loopback", "private", "carrier"];
/** Where no configuration leads: nothing there serves blobs or tokens. */
const NEVER: readonly AddressScope[] = ["metadata", "link-local", "multicast", "unspecified"];

/**
 * Whether a registry that was reached in one scope may send us into another: to public addresses always, to the others
 * only where it stands itself. A host that the configuration lists may be anywhere that could be a host.
 */
export const mayLead = (from: AddressScope, to: AddressScope, options: { readonly isListed: boolean }): boolean => {
  if (NEVER.includes(to)) return false;
  return to === "public" || options.isListed || (from === to && NEIGHBOURHOODS.includes(to));
};

/** By its name alone: an address of the loopback, or `localhost`, which RFC 6761 keeps for it. */
export const isLoopbackName = (hostname: string): boolean =>
  /^(?:.+\.)?localhost\.?$/i.test(hostname) || (isIP(hostname.replace(/^\[(.*)\]$/, "$1")) !== 0 && addressScope(hostname) === "loopback");
