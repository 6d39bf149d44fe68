/** Ends homes, and says what is left where nothing should be. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "@kiln/std/node";
import type { DfReport, OperationView, VmView } from "@kiln/protocol";
import { type TestHome, waitUntil } from "../e2e/home.ts";

/** VMs, operations and files that no record owns. What goes on behind the scenes, as the build of a snapshot does, may end first. */
export const checkHome = async (home: TestHome): Promise<readonly string[]> => {
  await waitUntil(async () => (await home.json<OperationView[]>("op", "ls")).length === 0, `the last operation of ${home.path}`);
  const vms = (await home.json<VmView[]>("ps", "-a")).map(({ name, state }) => `${name} (${state})`);
  const { orphans } = await home.json<DfReport>("df");
  const found = {
    ...{ VMs: vms, "files that no record owns": orphans },
    "directories of VMs": await readdir(join(home.path, "vms")),
    "files in staging": await readdir(join(home.path, "staging")),
  };
  return Object.entries(found).flatMap(([what, left]) =>
    left.length === 0 ? [] : [`${what} are left in ${home.path}: ${left.join(", ")}`],
  );
};

/** Removes the home's VMs, stops its daemon and deletes its files; what was left before each step. */
export const removeHome = async (home: TestHome): Promise<readonly string[]> => {
  if (!(await exists(home.path))) return [];
  const ids = (await home.ok("ps", "-aq")).split("\n").filter((id) => id !== "");
  if (ids.length > 0) await home.ok("rm", "-f", ...ids);
  const left = [...(await checkHome(home))];
  await home.ok("daemon", "stop");
  const alive = await home.processes();
  if (alive.length > 0) left.push(`processes of ${home.path} are left: ${alive.join(", ")}`);
  await rm(home.path, { recursive: true, force: true });
  return left;
};

const exists = async (path: string): Promise<boolean> => {
  try {
    await readdir(path);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
};
