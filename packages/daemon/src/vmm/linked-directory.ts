import { readlink } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "@kiln/std/node";
import { VMM_LINK } from "../vms/driver.port.ts";

/** Where the VMM of a VM was started, if that was elsewhere. */
export const linkedDirectory = async (directory: string): Promise<string | null> => {
  try {
    return await readlink(join(directory, VMM_LINK));
  } catch (error) {
    if (hasCode(error, "ENOENT", "EINVAL", "ENOTDIR")) return null;
    throw error;
  }
};
