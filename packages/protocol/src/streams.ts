/**
 * The streams of exec, attach and logs. On a WebSocket a binary message is one data frame and a text message is
 * one JSON control message; a log stream over plain HTTP is data frames, each behind its length.
 *
 * Data frame: u8 kind (0 stdin, 1 stdout, 2 stderr), u64 little-endian offset in that stream, then the bytes.
 * An offset that jumps says how many bytes were dropped.
 */

export const STREAM_KINDS = ["stdin", "stdout", "stderr"] as const;
export type StreamKind = (typeof STREAM_KINDS)[number];

export interface DataFrame {
  readonly stream: StreamKind;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface GuestOfExec {
  readonly vm: string;
  readonly epoch: number;
}

/** What the daemon sends as text. After `exit` or `error` it closes the socket. */
export type ServerMessage =
  /**
   * Which boot or restore of which VM an exec on this connection is for; the first message, where the VM runs. With it an
   * exec that is asked for again finds its command, or none: a guest that has been started since runs nothing twice (I26).
   */
  | ({ readonly type: "guest" } & GuestOfExec)
  /**
   * The command runs (exec), or the VM's command is attached. The guest has stdin before `stdinOffset`, and offsets of
   * stdin count from the command's start; null (attach, where clients share stdin): they count from this connection's.
   */
  | { readonly type: "started"; readonly stdinOffset: number | null }
  /** The guest has taken stdin before `offset`; a client sends at most STDIN_WINDOW_BYTES past it. */
  | { readonly type: "stdin-ack"; readonly offset: number }
  | { readonly type: "exit"; readonly exitCode: number | null; readonly signal: string | null; readonly oomKilled: boolean }
  | { readonly type: "error"; readonly problem: unknown };

/** What the client sends as text, after an exec's first message. `ack` lets the guest forget output before `offset`. */
export type ClientMessage =
  | { readonly type: "ack"; readonly stream: "stdout" | "stderr"; readonly offset: number }
  | { readonly type: "resize"; readonly rows: number; readonly cols: number }
  | { readonly type: "signal"; readonly signal: string }
  | { readonly type: "stdin-end" };

/** Stdin on its way to a guest that does not read it; signals and acknowledgements pass it by. */
export const STDIN_WINDOW_BYTES = 1 << 20;
export const FRAME_HEADER_BYTES = 9;
export const LENGTH_PREFIX_BYTES = 4;

export const encodeDataFrame = (frame: DataFrame): Uint8Array => {
  const out = new Uint8Array(FRAME_HEADER_BYTES + frame.bytes.length);
  out[0] = STREAM_KINDS.indexOf(frame.stream);
  new DataView(out.buffer).setBigUint64(1, BigInt(frame.offset), true);
  out.set(frame.bytes, FRAME_HEADER_BYTES);
  return out;
};

/** Throws RangeError on a frame that is too short or of an unknown kind. The bytes are a view of `message`. */
export const parseDataFrame = (message: Uint8Array): DataFrame => {
  if (message.length < FRAME_HEADER_BYTES) throw new RangeError(`a data frame of ${message.length} bytes has no header`);
  const stream = STREAM_KINDS[message[0] ?? 255];
  if (stream === undefined) throw new RangeError(`a data frame of unknown kind ${message[0]}`);
  const offset = Number(new DataView(message.buffer, message.byteOffset).getBigUint64(1, true));
  return { stream, offset, bytes: message.subarray(FRAME_HEADER_BYTES) };
};
