import { connect } from "node:net";
import { hasErrno } from "../errno.ts";
import { KilnError } from "@kiln/protocol/errors";

/** sockaddr_un.sun_path is 108 bytes with its final NUL: unix(7). */
const LONGEST_SOCKET_PATH_BYTES = 107;

/** Whether a daemon takes connections on the socket. Throws PERMISSION_DENIED for one that this user may not open. */
export const daemonAnswers = async (socketPath: string): Promise<boolean> => {
  if (Buffer.byteLength(socketPath) <= LONGEST_SOCKET_PATH_BYTES) return connects(socketPath, socketPath);
  // Loaded here: it brings SQLite and child processes, which a short path does not need.
  const { longSocketPath } = await import("@kiln/std/node");
  try {
    using short = longSocketPath(socketPath);
    return await connects(short.path, socketPath);
  } catch (error) {
    if (hasErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
};

const connects = (path: string, socketPath: string): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (cause) => {
      if (hasErrno(cause, "ENOENT", "ECONNREFUSED", "ENOTDIR", "ECONNRESET")) resolve(false);
      else if (hasErrno(cause, "EAGAIN")) resolve(true); // a full backlog: it runs and is busy
      else if (hasErrno(cause, "EACCES", "EPERM"))
        reject(new KilnError("PERMISSION_DENIED", `the socket ${socketPath} belongs to another user`, { cause, object: socketPath }));
      else reject(new KilnError("DAEMON_UNREACHABLE", `the socket ${socketPath} cannot be opened`, { cause, object: socketPath }));
    });
  });
