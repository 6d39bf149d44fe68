import type { Writable } from "node:stream";
import { errnoOf, KilnError } from "@kiln/protocol/errors";

/** Writes and waits until the stream takes more. Rejects if it cannot: a reader that has gone (EPIPE), a full disk behind a redirection. */
export const writeTo = (stream: Writable, data: string | Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    let written = false;
    const flowing = stream.write(data, (error) => {
      if (error !== null && error !== undefined) reject(failureOf(stream) ?? error);
      else if (!written) resolve();
    });
    if (flowing) {
      written = true;
      resolve();
    }
  });

/** Resolves when all that was written has gone out, or cannot. */
export const flushed = (stream: Writable): Promise<void> =>
  new Promise((resolve) => {
    if (stream.destroyed || stream.writableEnded) return resolve();
    stream.write("", () => resolve());
  });

/** What made the stream take no more, in Kiln's words where there is a next step; null if nothing did. */
export const failureOf = (stream: Writable): Error | null => {
  const { errored } = stream;
  if (errored === null || !NO_ROOM.has(errnoOf(errored) ?? "")) return errored;
  return new KilnError("DISK_FULL", "there is no room where the output goes", {
    cause: errored,
    hint: "make room there, or send the output to another place",
  });
};

const NO_ROOM: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
