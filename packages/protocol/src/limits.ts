/** Every limit that both sides of the API know, with its reason. */
export const LIMITS = {
  /** A VM's name is its hostname: RFC 1123 allows 63 octets a label. */
  nameLength: 63,
  /** The JSON of one request: an environment of 1 MiB and room for the rest. */
  requestBytes: 4 * 2 ** 20,
  /** Linux's ARG_MAX for argv and environment together is 2 MiB; half of it leaves the guest room. */
  commandBytes: 2 ** 20,
  /** No manifest, index or config is larger: the limit docker's registry has. */
  manifestBytes: 4 * 2 ** 20,
  /** An image with more layers is refused; docker's own limit is 127, packages of a Debian are some hundreds. */
  layers: 4096,
  cpus: 64,
  /** The cloud kernel does not boot in 64 MiB. */
  memoryBytesMin: 128 * 2 ** 20,
  memoryBytesMax: 1024 * 2 ** 30,
  /** Memory comes in these steps, so that shapes are few. */
  memoryStepBytes: 64 * 2 ** 20,
  diskBytesMin: 16 * 2 ** 20,
  diskBytesMax: 16 * 2 ** 40,
  labels: 64,
  /** Commands of one `image customize`: more belong into a script. */
  customizeCommands: 256,
  /** Published ports of a VM: each is a socket of the daemon. */
  ports: 128,
} as const;

export const DEFAULTS = {
  cpus: 1,
  memoryBytes: 512 * 2 ** 20,
  diskBytes: 8 * 2 ** 30,
  stopTimeoutMs: 10_000,
} as const;

/** Where a port is published unless told otherwise: to programs of this host alone. */
export const DEFAULT_HOST_IP = "127.0.0.1";

export const PORT_PROTOCOLS = ["tcp", "udp"] as const;
export type PortProtocol = (typeof PORT_PROTOCOLS)[number];
