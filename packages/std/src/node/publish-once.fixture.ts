/**
 * Publishes once when told to on stdin, so that a tracer can be attached before. All file work is on one pool
 * thread, whose id is printed first. Arguments: the kind, the target, the staging directory, the content.
 */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { publishDirectory, publishFile } from "./index.ts";

const [kind, target = "", stagingDir = "", content = ""] = process.argv.slice(2);

await stat(stagingDir); // starts the pool's thread
for (const id of await readdir("/proc/self/task")) {
  const name = await readFile(`/proc/self/task/${id}/comm`, "latin1");
  if (name.startsWith("libuv-worker")) console.log(id);
}
await new Promise((resolve) => process.stdin.once("data", resolve));
process.stdin.destroy();

if (kind === "directory") {
  const write = async (dir: string) => {
    await writeFile(join(dir, "a"), content);
    await writeFile(join(dir, "b"), content);
  };
  await publishDirectory({ target, stagingDir, write, ifExists: "keep" });
} else {
  await publishFile({
    target,
    stagingDir,
    mode: 0o444,
    write: async (file) => {
      const half = content.length / 2;
      await file.write(content.slice(0, half));
      await file.write(content.slice(half));
    },
    ifExists: kind === "replace" ? "replace" : "keep",
  });
}
