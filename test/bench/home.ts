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
}

/** A home kept between runs, so that kernel and image are there; its daemon runs as long as the bench. */
export const openHome = async (): Promise<BenchHome> => {
  const path = join(CACHE, "home");
  await mkdir(CACHE, { recursive: true });
  const env = { ...process.env, KILN_HOME: path };
  const kilnCommand = join(ROOT, "kiln");
  await run(kilnCommand, ["daemon", "start"], { env });
  await run(kilnCommand, ["run", "--rm", IMAGE, "--", "busybox", "true"], { env });
  const kiln = connect({ home: path });
  return {
    path,
    kiln,
    [Symbol.asyncDispose]: async () => {
      kiln[Symbol.dispose]();
      await run(kilnCommand, ["daemon", "stop"], { env });
    },
  };
};
