import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const TABLE = new URL("commands/table.ts", import.meta.url).href;

/** Loads every command as the command line does, and prints what came along. */
const SCRIPT = `
import { registerHooks } from "node:module";
const loaded = [];
registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
const { COMMANDS } = await import(${JSON.stringify(TABLE)});
for (const command of COMMANDS) await command.load();
console.log(JSON.stringify(loaded));
`;

test("no command loads the schemas: they would double the time that a command takes to begin", async () => {
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", SCRIPT], { maxBuffer: 2 ** 24 });
  const loaded = JSON.parse(stdout) as string[];
  assert.ok(
    loaded.some((url) => url.endsWith("/vm-run.ts")),
    "the commands were loaded",
  );
  assert.deepEqual(
    loaded.filter((url) => url.includes("/node_modules/zod/") || url.includes("/protocol/src/schemas/")),
    [],
  );
});
