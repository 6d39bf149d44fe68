import { z } from "zod";
import { DEFAULT_HOST_IP, PORT_PROTOCOLS } from "../limits.ts";

const ip = z.union([z.ipv4(), z.ipv6()], "an IPv4 or IPv6 address");
const port = z.int().min(1).max(65_535);

/** A port of a guest, and the address of the host that leads to it. */
export const portRequest = z.strictObject({
  hostIp: ip.default(DEFAULT_HOST_IP),
  /** 0: the host chooses a free one. */
  hostPort: z.int().min(0).max(65_535).default(0),
  guestPort: port,
  protocol: z.enum(PORT_PROTOCOLS).default("tcp"),
});
/** What a caller sends; absent fields take the defaults. */
export type PublishPort = z.input<typeof portRequest>;
export type PortRequest = z.output<typeof portRequest>;

export const portView = z.object({
  hostIp: z.string(),
  /** 0 until the VM starts and the host chooses one. */
  hostPort: z.int(),
  guestPort: z.int(),
  protocol: z.string(),
});
export type PortView = z.output<typeof portView>;

/** Which published ports to take back, as a query: all that fit. */
export const removePort = z.object({
  guestPort: z.coerce.number().int().min(1).max(65_535),
  protocol: z.enum(PORT_PROTOCOLS).default("tcp"),
  hostIp: ip.nullable().default(null),
  hostPort: z.coerce.number().int().min(1).max(65_535).nullable().default(null),
});
export type RemovePort = z.output<typeof removePort>;
