import { realpath } from "node:fs/promises";
import { cpus, homedir, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { asKilnError, toProblem } from "@kiln/protocol";
import { parseConfig } from "./config/config.ts";
import { lockHome, prepareHome } from "./store/home.ts";

/** The daemon's entry: takes the home before anything heavy is loaded, so that twenty at once cost little. */
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const VERSION = "0.1.0";

const defaultHome = (): string => {
  if (process.getuid?.() === 0) return "/var/lib/kiln";
  return join(process.env["XDG_DATA_HOME"] ?? join(homedir(), ".local/share"), "kiln");
};

process.umask(0o077); // whatever is written here is the owner's alone, unless it says otherwise

/** Asks for a report on the host instead of a daemon: what `kiln doctor` shows where none can run. */
const EXAMINE = "--examine";

const run = async (): Promise<void> => {
  const argv = process.argv.slice(2);
  const config = parseConfig({
    argv: argv.filter((argument) => argument !== EXAMINE),
    env: process.env,
    host: { cpus: cpus().length, memoryBytes: totalmem(), uid: process.getuid?.() ?? -1 },
    defaults: {
      home: defaultHome(),
      agentPath: join(ROOT, ".cache/agent/kiln-agent"),
      helperPath: join(ROOT, ".cache/agent/kiln-descriptors"),
    },
  });
  if (argv.includes(EXAMINE)) {
    const { examineWithoutDaemon } = await import("./examine.ts");
    process.stdout.write(`${JSON.stringify(await examineWithoutDaemon(config))}\n`);
    return;
  }
  const prepared = await prepareHome(config.home);
  const startedAt = new Date().toISOString();
  const lock = await lockHome(prepared, { pid: process.pid, startedAt, version: VERSION });
  const { serveHome } = await import("./serve.ts");
  await serveHome({ config: { ...config, home: await realpath(config.home) }, version: VERSION, startedAt });
  lock.release();
  process.exit(process.exitCode ?? 0); // whatever still waits for a VM waits for the next daemon
};

try {
  await run();
} catch (error) {
  process.stderr.write(`${JSON.stringify(toProblem(asKilnError(error)))}\n`);
  process.exitCode = asKilnError(error).exitCode;
}
