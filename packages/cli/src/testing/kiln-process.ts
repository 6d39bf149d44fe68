import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../../bin/kiln.mjs", import.meta.url));

export interface KilnRun {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface KilnOptions {
  readonly home: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to stdin, which then ends; without it stdin is empty. */
  readonly input?: string | Uint8Array;
  /** Sees the process, to signal it or to type. */
  readonly during?: (child: ChildProcess) => void;
}

/** Runs `kiln` as a user does, with a home of the test's own. */
export const kiln = (argv: readonly string[], options: KilnOptions): Promise<KilnRun> =>
  new Promise((resolve, reject) => {
    // Node reads --env-file wherever it stands before a "--", a script's own arguments included.
    const own = { HOME: options.home, KILN_HOME: options.home, XDG_RUNTIME_DIR: options.home };
    const env = { PATH: process.env["PATH"] ?? "", ...own, ...options.env };
    const child = spawn(process.execPath, ["--", BIN, ...argv], { env, cwd: options.cwd ?? "/", stdio: "pipe" });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text: string) => (output[stream] += text));
    child.on("error", reject);
    child.on("close", (exitCode, signal) => resolve({ exitCode, signal, ...output }));
    child.stdin.on("error", () => undefined); // a command that reads no stdin may be gone already
    if (options.input !== undefined || options.during === undefined) child.stdin.end(options.input ?? "");
    options.during?.(child);
  });
