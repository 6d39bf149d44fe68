import { homedir } from "node:os";
import { Kiln } from "../kiln.ts";
import { resolveHome, socketPathOf } from "./home.ts";
import { UnixTransport } from "./unix-transport.ts";

export interface ConnectOptions {
  /** Kiln's home; unless told, KILN_HOME or the user's default. */
  readonly home?: string;
}

/** The client of the daemon of a home. Nothing is opened before the first call, which fails with DAEMON_UNREACHABLE where none runs. */
export const connect = (options: ConnectOptions = {}): Kiln => {
  const uid = process.getuid?.() ?? null;
  const home = resolveHome({ home: options.home, env: process.env, uid, userHome: homedir(), cwd: process.cwd() });
  return new Kiln(new UnixTransport({ socketPath: socketPathOf(home) }));
};
