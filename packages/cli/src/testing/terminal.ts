import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../../bin/kiln.mjs", import.meta.url));

export const hasScript = spawnSync("script", ["--version"]).status === 0;

export interface TerminalOptions {
  readonly home: string;
  /** What is waited for before `keys` are typed. */
  readonly prompt?: string;
  readonly keys?: string;
  readonly rows?: number;
}

/** Runs `kiln` on a terminal of its own (util-linux's `script`), 24 by 80 unless told; `keys` are typed when `prompt` is seen. */
export const onTerminal = (argv: readonly string[], options: TerminalOptions): Promise<{ exitCode: number | null; screen: string }> =>
  new Promise((resolve, reject) => {
    const line = [process.execPath, "--", BIN, ...argv].map((word) => `'${word}'`).join(" ");
    const env = { PATH: process.env["PATH"] ?? "", HOME: options.home, XDG_RUNTIME_DIR: options.home, KILN_HOME: options.home };
    const child = spawn("script", ["-qefc", `stty rows ${options.rows ?? 24} cols 80; ${line}`, "/dev/null"], {
      env: { ...env, TERM: "xterm", SHELL: "/bin/sh" },
      stdio: "pipe",
    });
    let screen = "";
    let typed = false;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      screen += text;
      if (typed || options.prompt === undefined || !screen.includes(options.prompt)) return;
      typed = true;
      child.stdin.write(options.keys ?? "");
    });
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode, screen }));
  });
