/** Every number of the agent's wire. `scripts/generate-wire.ts` writes the guest's C header from these tables. */

export const WIRE = {
  version: 1,
  /** First byte of every frame ("K"); 0x00 in its place is padding. */
  sync: 0x4b,
  headerBytes: 12,
  trailerBytes: 4,
  /** Ends every frame; none of its bytes is zero, so a frame that a flush completes is never whole. */
  trailer: 0x4e4c494b,
  /** Small enough that a control frame never waits long behind data. */
  payloadBytes: 16_384,
  /** Zero bytes before each HELLO: a whole frame, so that any half-sent one ends within them. */
  flushBytes: 16_400,
  /** A request reassembled from its parts: 1 MiB of argv and environment and the TLV headers around them. */
  requestBytes: 4 * 2 ** 20,
  /** Output kept in the guest per stream until it is acknowledged; also how much may be unacknowledged on the wire. */
  ringBytes: 262_144,
  /** Bytes of stdin that the guest buffers per command. */
  stdinWindowBytes: 65_536,
  /** Commands that run or are not forgotten yet. */
  execs: 256,
  execIdBytes: 64,
  nonceBytes: 16,
  helloBytes: 32,
  helloAckBytes: 40,
  /** Bytes of an EXEC_INFO before its exec id. */
  execInfoBytes: 80,
  entropyBytes: 64,
  /** Connections into the guest that are open at once: more than a busy web server's clients keep, and 32 MiB of windows. */
  connections: 512,
  /** Bytes of one direction of a connection that may be on their way and not taken yet: 100 MB/s at a millisecond's round trip would need 100 kB. */
  connectionWindowBytes: 65_536,
  /** The largest payload of UDP over IPv4. */
  datagramBytes: 65_507,
  /** Where the guest listens when it has no virtio-serial port. */
  vsockPort: 1024,
  /** In `flags` of REQUEST, REPLY and a datagram's DATA: the next frame of this stream continues the payload. */
  moreFlag: 0x8000,
} as const;

/** The 8 bytes that begin HELLO and HELLO_ACK. */
export const WIRE_MAGIC = "KILNv1\r\n";

/** The name of the virtio-serial port that the agent looks for. */
export const WIRE_PORT_NAME = "kiln.agent";

export const FRAME_TYPES = {
  /** Host: opens a session. */
  HELLO: 1,
  HELLO_ACK: 2,
  /** Host: flags = OPS number (and moreFlag), stream = request id. */
  REQUEST: 3,
  /** Guest: flags = WIRE_ERRORS number (and moreFlag), stream = request id. */
  REPLY: 4,
  /** Guest: flags = OUTPUT_STREAMS number, payload = u64 offset, bytes. */
  OUTPUT: 5,
  /** Host: output before the u64 offset may be forgotten; flags as OUTPUT. */
  ACK: 6,
  /** Host: payload = u64 offset, bytes; flags 1 = the end. */
  STDIN: 7,
  /** Guest: payload = u64 received, u64 consumed; flags 1 = the command has closed its stdin. */
  WINDOW: 8,
  /** Guest: payload = EXEC_INFO; all output was sent before it. */
  EXIT: 9,
  /** Host: the answer to POWEROFF arrived. */
  BYE: 10,
  /** Both: bytes of a connection; flags 1 = nothing comes after them in this direction. */
  DATA: 11,
  /** Both: payload = u64 bytes of the connection that were taken since its start. */
  CREDIT: 12,
  /** Both: the connection is broken off. The guest answers the host's with its own. */
  RESET: 13,
} as const;
export type FrameType = (typeof FRAME_TYPES)[keyof typeof FRAME_TYPES];

export const OPS = {
  SETUP: 1,
  EXEC: 2,
  ATTACH: 3,
  LIST: 4,
  FORGET: 5,
  SIGNAL: 6,
  PING: 7,
  SYNC: 8,
  POWEROFF: 9,
  RESIZE: 10,
  STATS: 11,
  CLOCK: 12,
  DETACH: 13,
  DIAL: 14,
  /** Loads modules while no device gets its driver: before a guest is saved. */
  PREPARE: 15,
  /** A SETUP on other disks whose effects go again; then EXEC is allowed until the next epoch. */
  REHEARSE: 16,
} as const;
export type Op = (typeof OPS)[keyof typeof OPS];

export const WIRE_ERRORS = {
  OK: 0,
  /** The request cannot be read. */
  INVALID: 1,
  EXEC_NOT_FOUND: 2,
  COMMAND_NOT_FOUND: 3,
  COMMAND_NOT_EXECUTABLE: 4,
  USER_UNKNOWN: 5,
  /** With STEP, ERRNO and MESSAGE. */
  SETUP_FAILED: 6,
  /** A limit of the guest: too many commands. */
  LIMIT: 7,
  /** With ERRNO and MESSAGE. */
  FAILED: 8,
  /** HELLO of an epoch older than the guest's. */
  STALE_EPOCH: 9,
  UNSUPPORTED: 10,
  /** SETUP was not done yet. */
  NOT_READY: 11,
} as const;
export type WireErrorNumber = (typeof WIRE_ERRORS)[keyof typeof WIRE_ERRORS];

export const TAGS = {
  ERRNO: 1,
  MESSAGE: 2,
  STEP: 3,
  MODULE: 4,
  DISK_ROOT: 5,
  DISK_WRITABLE: 6,
  DISK_MODULES: 7,
  HOSTNAME: 8,
  MACHINE_ID: 9,
  CLOCK_NS: 10,
  ENTROPY: 11,
  HOSTS: 12,
  RESOLV_CONF: 13,
  /** u32 microseconds, then the step's name. */
  STEP_TIME: 14,
  /** 6 bytes MAC, u8 bits of the network, u8 zero, 4 bytes address, 4 bytes gateway. */
  NETWORK: 15,
  /** As MODULE, for the NIC. */
  NETWORK_MODULE: 16,
  /** As the guest's kernel shows it. */
  BOOT_ID: 17,
  /** u32: which disk of the bus is the rehearsal's root << 8 | which is its writable one. */
  REHEARSED_SLOTS: 18,
  EXEC_ID: 20,
  ARG: 21,
  ENV: 22,
  CWD: 23,
  USER: 24,
  /** u16 rows, u16 columns. */
  TTY: 25,
  STDIN: 26,
  OVERFLOW: 27,
  UMASK: 28,
  /** u32 resource, u32 zero, u64 soft, u64 hard. */
  RLIMIT: 29,
  /** The number that the host gives an attachment. */
  STREAM: 30,
  EXEC_INFO: 31,
  SIGNAL: 32,
  GRACE_MS: 33,
  UPTIME_MS: 34,
  MEMORY_TOTAL: 35,
  MEMORY_AVAILABLE: 36,
  /** A PROTOCOLS number. */
  PROTOCOL: 37,
  PORT: 38,
} as const;

export const OUTPUT_STREAMS = { STDOUT: 1, STDERR: 2 } as const;
/** What a connection carries: a stream of bytes, or datagrams. IANA's numbers. */
export const PROTOCOLS = { TCP: 6, UDP: 17 } as const;
/** In `flags` of DATA: nothing comes after it in this direction. */
export const DATA_END = 1;
export const OVERFLOWS = { BLOCK: 0, DROP: 1 } as const;
export const EXEC_STATES = { STARTING: 0, RUNNING: 1, EXITED: 2 } as const;
/** Bits of `flags` in EXEC_INFO. */
export const EXEC_FLAGS = { OOM_KILLED: 1, TTY: 2, STDIN: 4, DROP: 8, STDIN_CLOSED: 16 } as const;
