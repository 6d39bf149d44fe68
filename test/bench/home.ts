import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connect } from "@kiln/sdk/node";

const run = promisify(execFile);
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const CACHE = join(ROOT, ".cache/bench");
export const IMAGE = "deb:busybox-static";

export interface BenchHome extends AsyncDisposable {
  readonly path: string;
  readonly kiln: ReturnType<typeof connect>;
  /** Runs `kiln ARGS` for this home to its end; what it wrote to stdout. Throws where it fails. */
  command(...args: readonly string[]): Promise<string>;
}

/** A home kept between runs, so that kernel and image are there; its daemon runs as long as the bench. */
export const openHome = async (settings: Readonly<Record<string, string>> = {}): Promise<BenchHome> => {
  const path = join(CACHE, "home");
  await mkdir(CACHE, { recursive: true });
  const env = { ...process.env, KILN_HOME: path, ...settings };
  const command = async (...args: readonly string[]): Promise<string> => (await run(join(ROOT, "kiln"), args, { env })).stdout;
  await command("daemon", "start");
  await command("run", "--rm", IMAGE, "--", "busybox", "true");
  const kiln = connect({ home: path });
  return {
    path,
    kiln,
    command,
    [Symbol.asyncDispose]: async () => {
      kiln[Symbol.dispose]();
      await command("daemon", "stop");
    },
  };
};
