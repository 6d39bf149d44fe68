import type { ReadStream, WriteStream } from "node:tty";

/** What the command line has of its process, passed in so that a test can be one. */
export interface Host {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** null where the platform has none. */
  readonly uid: number | null;
  readonly stdin: ReadStream;
  readonly stdout: WriteStream;
  readonly stderr: WriteStream;
  /** Calls `handler` on each arrival of `signal` until disposed of. */
  onSignal(signal: NodeJS.Signals, handler: () => void): Disposable;
}

export const processHost = (): Host => ({
  argv: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  uid: process.getuid?.() ?? null,
  get stdin() {
    return process.stdin;
  },
  get stdout() {
    return process.stdout;
  },
  get stderr() {
    return process.stderr;
  },
  onSignal: (signal, handler) => {
    process.on(signal, handler);
    return { [Symbol.dispose]: () => void process.off(signal, handler) };
  },
});
