import { closeSync, constants, openSync } from "node:fs";
import { basename, dirname } from "node:path";

/** sockaddr_un.sun_path is 108 bytes with its final NUL: unix(7). */
const LONGEST_SOCKET_PATH_BYTES = 107;

export interface SocketPath extends Disposable {
  /** To bind or connect with, in this process only. */
  readonly path: string;
}

/**
 * A path by which this process can bind or connect to the Unix socket `path`, however long that is: a path of
 * more than 107 bytes is reached through its open directory as `/proc/self/fd/N/NAME`. Dispose of it after the
 * connection is made, or after the server has closed: a closing server unlinks the path it was bound to.
 * Throws ENOENT if the directory is missing, RangeError if the file name alone is too long.
 */
export function longSocketPath(path: string): SocketPath {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH_BYTES) return { path, [Symbol.dispose]: () => undefined };
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  let open = true;
  const close = () => {
    if (open) closeSync(directory);
    open = false;
  };
  const short = `/proc/self/fd/${directory}/${basename(path)}`;
  if (Buffer.byteLength(short) > LONGEST_SOCKET_PATH_BYTES) {
    close();
    throw new RangeError(`the name of the socket ${path} is too long`);
  }
  return { path: short, [Symbol.dispose]: close };
}
