import { KilnError } from "../errors.ts";
import { EXEC_FLAGS, EXEC_STATES, WIRE } from "./constants.ts";

/** What the guest says of one command. Offsets are bytes from the command's start. */
export interface ExecInfo {
  readonly id: string;
  readonly state: keyof typeof EXEC_STATES;
  readonly exitCode: number;
  /** 0 where it ended by itself. */
  readonly signal: number;
  readonly oomKilled: boolean;
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly drop: boolean;
  readonly stdinClosed: boolean;
  /** The oldest byte kept and the end so far. */
  readonly stdout: { readonly start: number; readonly end: number };
  readonly stderr: { readonly start: number; readonly end: number };
  readonly stdinReceived: number;
  readonly stdinConsumed: number;
  /** The guest's process id. */
  readonly pid: number;
}

const STATES = ["STARTING", "RUNNING", "EXITED"] as const satisfies readonly (keyof typeof EXEC_STATES)[];
const protocolError = (what: string): KilnError =>
  new KilnError("GUEST_AGENT_PROTOCOL", `the agent's word on a command is malformed: ${what}`);

/** A u64 of the wire as a number. Throws GUEST_AGENT_PROTOCOL past 2^53. */
export const readOffset = (view: DataView, at: number): number => {
  const offset = view.getBigUint64(at, true);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError("an offset past 2^53");
  return Number(offset);
};

/** Throws GUEST_AGENT_PROTOCOL. */
export const parseExecInfo = (bytes: Uint8Array): ExecInfo => {
  const idBytes = bytes.length - WIRE.execInfoBytes;
  if (idBytes < 1 || idBytes > WIRE.execIdBytes) throw protocolError(`${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const state = STATES[view.getUint32(0, true)];
  if (state === undefined) throw protocolError("unknown state");
  const flags = view.getUint32(12, true);
  const offset = (index: number): number => readOffset(view, 16 + index * 8);
  const info: ExecInfo = {
    id: new TextDecoder().decode(bytes.subarray(WIRE.execInfoBytes)),
    state,
    exitCode: view.getUint32(4, true),
    signal: view.getUint32(8, true),
    oomKilled: (flags & EXEC_FLAGS.OOM_KILLED) !== 0,
    tty: (flags & EXEC_FLAGS.TTY) !== 0,
    stdin: (flags & EXEC_FLAGS.STDIN) !== 0,
    drop: (flags & EXEC_FLAGS.DROP) !== 0,
    stdinClosed: (flags & EXEC_FLAGS.STDIN_CLOSED) !== 0,
    stdout: { start: offset(0), end: offset(1) },
    stderr: { start: offset(2), end: offset(3) },
    stdinReceived: offset(4),
    stdinConsumed: offset(5),
    pid: offset(6),
  };
  if (info.stdout.start > info.stdout.end || info.stderr.start > info.stderr.end) throw protocolError("output that ends before it starts");
  return info;
};

export const encodeExecInfo = (info: ExecInfo): Uint8Array => {
  const id = new TextEncoder().encode(info.id);
  const out = new Uint8Array(WIRE.execInfoBytes + id.length);
  const view = new DataView(out.buffer);
  const flags = [
    info.oomKilled ? EXEC_FLAGS.OOM_KILLED : 0,
    info.tty ? EXEC_FLAGS.TTY : 0,
    info.stdin ? EXEC_FLAGS.STDIN : 0,
    info.drop ? EXEC_FLAGS.DROP : 0,
    info.stdinClosed ? EXEC_FLAGS.STDIN_CLOSED : 0,
  ].reduce((sum, bit) => sum | bit, 0);
  [EXEC_STATES[info.state], info.exitCode, info.signal, flags].forEach((value, index) => view.setUint32(index * 4, value, true));
  const offsets = [
    info.stdout.start,
    info.stdout.end,
    info.stderr.start,
    info.stderr.end,
    info.stdinReceived,
    info.stdinConsumed,
    info.pid,
  ];
  offsets.forEach((value, index) => view.setBigUint64(16 + index * 8, BigInt(value), true));
  out.set(id, WIRE.execInfoBytes);
  return out;
};
