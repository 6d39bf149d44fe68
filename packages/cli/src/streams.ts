import type { Writable } from "node:stream";

/** Writes and waits until the stream takes more. A reader that has gone (EPIPE) rejects. */
export const writeTo = (stream: Writable, data: string | Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    let written = false;
    const flowing = stream.write(data, (error) => {
      if (error !== null && error !== undefined) reject(error);
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
