import type { CommandSession } from "@kiln/sdk";
import type { Host } from "../host.ts";

export type StdinEnd = "ended" | "detached";

export const isDetached = (end: StdinEnd): boolean => end === "detached";

export interface StdinRelay extends Disposable {
  readonly ended: Promise<StdinEnd>;
}

/** docker's detach keys: ctrl-p, ctrl-q. */
const CTRL_P = 0x10;
const CTRL_Q = 0x11;

/** Largest piece that is sent at once, so that signals never wait long behind it. */
const PIECE_BYTES = 2 ** 16;

/** Takes the detach keys out of what is typed; a lone ctrl-p goes on with the next key. */
export class DetachKeys {
  #held = false;

  /** What of the bytes goes to the guest, and whether the caller asked to detach behind it. */
  take(bytes: Uint8Array): { readonly bytes: Uint8Array; readonly detach: boolean } {
    const out: number[] = [];
    for (const byte of bytes) {
      if (this.#held && byte === CTRL_Q) return { bytes: Uint8Array.from(out), detach: true };
      if (this.#held) out.push(CTRL_P);
      this.#held = byte === CTRL_P;
      if (!this.#held) out.push(byte);
    }
    return { bytes: Uint8Array.from(out), detach: false };
  }
}

/** Sends the process's stdin to a command. `raw`: the terminal is given over, ctrl-p ctrl-q comes back. */
export const relayStdin = (host: Host, session: CommandSession, options: { readonly raw: boolean }): StdinRelay => {
  const { stdin } = host;
  const raw = options.raw && stdin.isTTY;
  if (raw) stdin.setRawMode(true);
  return {
    ended: pump(host, session, raw ? new DetachKeys() : null),
    [Symbol.dispose]: () => {
      if (raw) stdin.setRawMode(false);
      stdin.destroy();
    },
  };
};

const pump = async (host: Host, session: CommandSession, keys: DetachKeys | null): Promise<StdinEnd> => {
  try {
    for await (const chunk of host.stdin) {
      const typed = keys === null ? { bytes: chunk as Uint8Array, detach: false } : keys.take(chunk as Uint8Array);
      for (let at = 0; at < typed.bytes.length; at += PIECE_BYTES) {
        if (!(await session.write(typed.bytes.subarray(at, at + PIECE_BYTES)))) return "ended";
      }
      if (typed.detach) return "detached";
    }
  } catch (error) {
    if (host.stdin.destroyed) return "ended"; // the command has ended before its input
    throw error;
  }
  await session.endStdin();
  return "ended";
};
