import { KilnError } from "../errors.ts";
import { OVERFLOWS, TAGS, WIRE } from "./constants.ts";
import { encodeTlvs, parseTlvs, type TlvFields, type TlvItem } from "./tlv.ts";

/** What the guest gives its NIC; IPv4. */
export interface NetworkSetup {
  /** To load from the initramfs, in order. */
  readonly modules: readonly string[];
  /** Six bytes: a restored guest still has its snapshot's. */
  readonly mac: Uint8Array;
  readonly address: Uint8Array;
  readonly prefixBits: number;
  readonly gateway: Uint8Array;
}

/** Ran before anything of the image: what the guest is told about itself. */
export interface SetupRequest {
  /** Kernel modules to load from the initramfs, in order, without path and suffix ("virtio_blk"). */
  readonly modules: readonly string[];
  /** Block devices by slot: the serial that the driver gave each disk is the slot's name. */
  readonly disks: { readonly root: string; readonly writable: string; readonly modules: string | null };
  readonly hostname: string;
  /** 32 hex digits. */
  readonly machineId: string;
  /** The host's clock, nanoseconds since 1970. */
  readonly clockNs: bigint;
  /** 64 bytes from the host's random source. */
  readonly entropy: Uint8Array;
  /** Lines of /etc/hosts and /etc/resolv.conf. */
  readonly hosts: string;
  readonly resolvConf: string;
  /** Of this boot or restore; a UUID. */
  readonly bootId: string;
  /** null: the guest has lo and nothing else. */
  readonly network: NetworkSetup | null;
}

/** A command to run. */
export interface ExecRequest {
  /** 1 to 64 of A-Za-z0-9_- ; the guest runs one id once. */
  readonly id: string;
  readonly argv: readonly string[];
  /** NAME=VALUE. */
  readonly env: readonly string[];
  readonly cwd: string;
  /** "" is root; else USER[:GROUP], names or numbers, looked up in the guest's own /etc/passwd and /etc/group. */
  readonly user: string;
  readonly tty: { readonly rows: number; readonly cols: number } | null;
  readonly stdin: boolean;
  readonly overflow: "block" | "drop";
}

export const encodeSetup = (setup: SetupRequest): Uint8Array =>
  encodeTlvs([
    ...setup.modules.map((name): TlvItem => [TAGS.MODULE, name]),
    [TAGS.DISK_ROOT, setup.disks.root],
    [TAGS.DISK_WRITABLE, setup.disks.writable],
    ...(setup.disks.modules === null ? [] : [[TAGS.DISK_MODULES, setup.disks.modules] satisfies TlvItem]),
    [TAGS.HOSTNAME, setup.hostname],
    [TAGS.MACHINE_ID, setup.machineId],
    [TAGS.CLOCK_NS, setup.clockNs],
    [TAGS.ENTROPY, setup.entropy],
    [TAGS.HOSTS, setup.hosts],
    [TAGS.RESOLV_CONF, setup.resolvConf],
    [TAGS.BOOT_ID, setup.bootId],
    ...(setup.network === null ? [] : encodeNetwork(setup.network)),
  ]);

const NETWORK_AT = { prefixBits: 6, address: 8, gateway: 12, bytes: 16 } as const;

/** For a SETUP, or a PREPARE that leaves nothing but the MAC to it. */
export const encodeNetwork = ({ modules, mac, prefixBits, address, gateway }: NetworkSetup): readonly TlvItem[] => {
  const value = new Uint8Array(NETWORK_AT.bytes);
  value.set(mac);
  value[NETWORK_AT.prefixBits] = prefixBits;
  value.set(address, NETWORK_AT.address);
  value.set(gateway, NETWORK_AT.gateway);
  return [...modules.map((name): TlvItem => [TAGS.NETWORK_MODULE, name]), [TAGS.NETWORK, value]];
};

const parseNetwork = (fields: TlvFields): NetworkSetup | null => {
  if (!fields.has(TAGS.NETWORK)) return null;
  const value = fields.bytes(TAGS.NETWORK);
  if (value.length !== NETWORK_AT.bytes) throw new KilnError("GUEST_AGENT_PROTOCOL", `a network of ${value.length} bytes`);
  return {
    modules: fields.texts(TAGS.NETWORK_MODULE),
    mac: value.slice(0, NETWORK_AT.prefixBits),
    prefixBits: value[NETWORK_AT.prefixBits] ?? 0,
    address: value.slice(NETWORK_AT.address, NETWORK_AT.gateway),
    gateway: value.slice(NETWORK_AT.gateway),
  };
};

/** Throws GUEST_AGENT_PROTOCOL. */
export const parseSetup = (payload: Uint8Array): SetupRequest => {
  const fields = parseTlvs(payload);
  return {
    modules: fields.texts(TAGS.MODULE),
    disks: {
      root: fields.text(TAGS.DISK_ROOT),
      writable: fields.text(TAGS.DISK_WRITABLE),
      modules: fields.has(TAGS.DISK_MODULES) ? fields.text(TAGS.DISK_MODULES) : null,
    },
    hostname: fields.text(TAGS.HOSTNAME),
    machineId: fields.text(TAGS.MACHINE_ID),
    clockNs: fields.u64(TAGS.CLOCK_NS),
    entropy: fields.bytes(TAGS.ENTROPY),
    hosts: fields.text(TAGS.HOSTS),
    resolvConf: fields.text(TAGS.RESOLV_CONF),
    bootId: fields.text(TAGS.BOOT_ID),
    network: parseNetwork(fields),
  };
};

/** A terminal's size as the wire has it. */
export const encodeSize = (size: { readonly rows: number; readonly cols: number }): Uint8Array => {
  const out = new Uint8Array(4);
  const view = new DataView(out.buffer);
  view.setUint16(0, size.rows, true);
  view.setUint16(2, size.cols, true);
  return out;
};

export const encodeExec = (exec: ExecRequest): Uint8Array =>
  encodeTlvs([
    [TAGS.EXEC_ID, exec.id],
    ...exec.argv.map((arg): TlvItem => [TAGS.ARG, arg]),
    ...exec.env.map((entry): TlvItem => [TAGS.ENV, entry]),
    [TAGS.CWD, exec.cwd],
    [TAGS.USER, exec.user],
    ...(exec.tty === null ? [] : [[TAGS.TTY, encodeSize(exec.tty)] satisfies TlvItem]),
    [TAGS.STDIN, exec.stdin ? 1 : 0],
    [TAGS.OVERFLOW, exec.overflow === "drop" ? OVERFLOWS.DROP : OVERFLOWS.BLOCK],
  ]);

/** Throws GUEST_AGENT_PROTOCOL. */
export const parseExec = (payload: Uint8Array): ExecRequest => {
  const fields = parseTlvs(payload);
  const size = fields.has(TAGS.TTY) ? fields.bytes(TAGS.TTY) : null;
  const view = size === null || size.length !== 4 ? null : new DataView(size.buffer, size.byteOffset, 4);
  return {
    id: fields.text(TAGS.EXEC_ID),
    argv: fields.texts(TAGS.ARG),
    env: fields.texts(TAGS.ENV),
    cwd: fields.text(TAGS.CWD),
    user: fields.text(TAGS.USER),
    tty: view === null ? null : { rows: view.getUint16(0, true), cols: view.getUint16(2, true) },
    stdin: fields.u32(TAGS.STDIN) !== 0,
    overflow: fields.u32(TAGS.OVERFLOW) === OVERFLOWS.DROP ? "drop" : "block",
  };
};

/** The payload of STDIN and OUTPUT. */
export const encodeChunk = (offset: number, bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(8 + bytes.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(offset), true);
  out.set(bytes, 8);
  return out;
};

/** Bytes of STDIN or OUTPUT that fit one frame. */
export const CHUNK_BYTES = WIRE.payloadBytes - 8;
