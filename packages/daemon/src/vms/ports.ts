import { KilnError, type PortProtocol, type PortRequest, type PortView, type VmState } from "@kiln/protocol";
import { z } from "zod";
import { LIVE_STATES } from "./states.ts";

/** A port of a guest at an address of the host, as it is kept. */
export const publishedPort = z.object({
  hostIp: z.string(),
  /** 0 while the host has not chosen one. */
  hostPort: z.int(),
  guestPort: z.int(),
  protocol: z.enum(["tcp", "udp"]),
  /** The host chooses its port, and may choose another at the next start. */
  isAutomatic: z.boolean(),
});
export type PublishedPort = Readonly<z.output<typeof publishedPort>>;

export interface HostAddress {
  readonly hostIp: string;
  readonly hostPort: number;
  readonly protocol: PortProtocol;
}

export const toPublishedPort = (request: PortRequest): PublishedPort => ({
  ...{ hostIp: request.hostIp, hostPort: request.hostPort, guestPort: request.guestPort, protocol: request.protocol },
  isAutomatic: request.hostPort === 0,
});

export const toPortView = ({ hostIp, hostPort, guestPort, protocol }: PublishedPort): PortView => ({
  hostIp,
  hostPort,
  guestPort,
  protocol,
});

/** "127.0.0.1:8080/tcp" */
export const addressText = ({ hostIp, hostPort, protocol }: HostAddress): string =>
  `${hostIp.includes(":") ? `[${hostIp}]` : hostIp}:${hostPort}/${protocol}`;

/** Asked for in the same words; an automatic one by any of its ports. */
export const isSamePort = (one: PublishedPort, other: PublishedPort): boolean =>
  one.hostIp === other.hostIp &&
  one.guestPort === other.guestPort &&
  one.protocol === other.protocol &&
  one.isAutomatic === other.isAutomatic &&
  (one.isAutomatic || one.hostPort === other.hostPort);

/** Each once, in the order of the first. */
export const distinctPorts = (ports: readonly PublishedPort[]): PublishedPort[] =>
  ports.filter((port, index) => ports.findIndex((other) => isSamePort(port, other)) === index);

const isEverywhere = (ip: string): boolean => ip === "0.0.0.0" || ip === "::";
const isV6 = (ip: string): boolean => ip.includes(":");

/** Whether no two sockets can have both. */
export const overlap = (one: HostAddress, other: HostAddress): boolean =>
  one.protocol === other.protocol &&
  one.hostPort === other.hostPort &&
  one.hostPort !== 0 &&
  isV6(one.hostIp) === isV6(other.hostIp) &&
  (one.hostIp === other.hostIp || isEverywhere(one.hostIp) || isEverywhere(other.hostIp));

interface PortOwner {
  readonly id: string;
  readonly name: string;
  readonly state: VmState;
  readonly ports: readonly PublishedPort[];
}

/** What the host has chosen for a VM is its own while it lives. */
const firmPorts = ({ state, ports }: PortOwner): readonly PublishedPort[] =>
  ports.filter(({ isAutomatic }) => !isAutomatic || LIVE_STATES.has(state));

/** A host address belongs to one VM of the home, whether it runs or not. Throws PORT_IN_USE, which names the VM. */
export const requireFreePorts = (owner: PortOwner, vms: Iterable<PortOwner>): void => {
  const wanted = firmPorts(owner);
  wanted.forEach((port, index) => {
    if (wanted.slice(0, index).some((other) => overlap(port, other)))
      throw new KilnError("PORT_IN_USE", `${addressText(port)} is wanted for two ports of ${owner.name}`, { object: owner.name });
  });
  if (wanted.length === 0) return;
  for (const vm of vms) {
    if (vm.id === owner.id) continue;
    const taken = firmPorts(vm).find((other) => wanted.some((port) => overlap(port, other)));
    if (taken === undefined) continue;
    throw new KilnError("PORT_IN_USE", `${addressText(taken)} belongs to the VM ${vm.name}`, {
      object: vm.name,
      hint: `choose another port, or free it with \`kiln port rm ${vm.name} ${taken.guestPort}/${taken.protocol}\``,
    });
  }
};
