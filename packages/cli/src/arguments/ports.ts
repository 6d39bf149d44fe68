import type { PortView, PublishPort } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import { DEFAULT_HOST_IP, PORT_PROTOCOLS, type PortProtocol } from "@kiln/protocol/limits";

const FORM = "[IP:]HOST:GUEST[/udp], [IP:]:GUEST or GUEST";
const HIGHEST = 65_535;

const usage = (text: string, why: string): KilnError =>
  new KilnError("USAGE", `${text}: ${why}`, { hint: `a port is ${FORM}; without HOST it is a free one, without IP at ${DEFAULT_HOST_IP}` });

const parsePort = (word: string, text: string, min: number): number => {
  const port = Number(word);
  if (/^\d+-\d+$/.test(word)) throw usage(text, "ranges are not taken; give each port by itself");
  if (!/^\d{1,5}$/.test(word) || port < min || port > HIGHEST) throw usage(text, `"${word}" is no port`);
  return port;
};

const isProtocol = (word: string): word is PortProtocol => PORT_PROTOCOLS.some((one) => one === word);

/** "80/udp" without what stands before the slash; tcp unless told. */
const splitProtocol = (text: string): { rest: string; protocol: PortProtocol } => {
  const [rest = "", protocol = "tcp", ...more] = text.split("/");
  if (!isProtocol(protocol) || more.length > 0) throw usage(text, `there are ${PORT_PROTOCOLS.join(" and ")}`);
  return { rest, protocol };
};

/** docker's -p: "80", "8080:80", "127.0.0.1:8080:80", "127.0.0.1::80", "[::1]:8080:53/udp". Throws USAGE. */
export const parsePublish = (text: string): PublishPort => {
  const { rest, protocol } = splitProtocol(text);
  const [, v6, afterV6] = /^\[([^\]]*)\]:(.*)$/.exec(rest) ?? [];
  const words = (afterV6 ?? rest).split(":");
  const guest = words.pop() ?? "";
  const host = words.pop() ?? "";
  const ip = v6 ?? words.pop();
  if (words.length > 0 || (v6 !== undefined && !afterV6?.includes(":"))) throw usage(text, "it has too many or too few parts");
  return {
    ...(ip === undefined || ip === "" ? {} : { hostIp: ip }),
    hostPort: host === "" ? 0 : parsePort(host, text, 0),
    guestPort: parsePort(guest, text, 1),
    protocol,
  };
};

/** "80" or "53/udp": a port of a guest. Throws USAGE. */
export const parseGuestPort = (text: string): { readonly guestPort: number; readonly protocol: PortProtocol } => {
  const { rest, protocol } = splitProtocol(text);
  return { guestPort: parsePort(rest, text, 1), protocol };
};

/** "127.0.0.1:8080"; a port that is not chosen yet has none. */
export const hostAddress = ({ hostIp, hostPort }: PortView): string =>
  `${hostIp.includes(":") ? `[${hostIp}]` : hostIp}:${hostPort === 0 ? "" : hostPort}`;

/** docker's column: "127.0.0.1:8080->80/tcp". */
export const describePort = (port: PortView): string => `${hostAddress(port)}->${port.guestPort}/${port.protocol}`;
