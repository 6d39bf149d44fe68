import { NETWORK_LIMITS } from "./limits.ts";

const ADDRESS = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;
/** What a guest may be told of a name: no host's file makes lines of a guest's. */
const DOMAIN = /^[A-Za-z0-9._-]{1,253}$/;

/** The host's resolvers in order, IPv4 only. */
export const hostResolvers = (resolvConf: string): readonly string[] =>
  resolvConf
    .split("\n")
    .map((line) => /^nameserver\s+(\S+)/.exec(line)?.[1] ?? "")
    .filter((address) => ADDRESS.test(address));

/**
 * The guest's resolv.conf. `resolver` is the one that forwards, over UDP only; the host's own follow where a guest can
 * reach them, for answers that are too long for a datagram.
 */
export const guestResolvConf = (resolver: string, hostText: string, isClosed: (address: string) => boolean): string => {
  const reachable = hostResolvers(hostText).filter((address) => !isClosed(address));
  const servers = [...new Set([resolver, ...reachable])].slice(0, NETWORK_LIMITS.resolvers);
  const search = hostText
    .split("\n")
    .flatMap((line) => /^(?:search|domain)\s+(.*)$/.exec(line)?.[1]?.split(/\s+/) ?? [])
    .filter((domain) => DOMAIN.test(domain));
  const lines = servers.map((server) => `nameserver ${server}\n`);
  return [...lines, ...(search.length === 0 ? [] : [`search ${search.slice(0, 6).join(" ")}\n`])].join("");
};

/** Of addresses that are closed by a fixed rule. */
export const isNeverReachable = (address: string): boolean =>
  /^(?:0|127)\./.test(address) || address.startsWith("169.254.") || /^(?:22[4-9]|2[3-5]\d)\./.test(address);
