import { hasCode } from "@kiln/std/node";

/** What is read; `otherwise` where the file or the process has gone, or is another user's. */
export const ifThere = async <Value>(read: Promise<Value>, otherwise: Value): Promise<Value> => {
  try {
    return await read;
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR", "ESRCH", "EACCES", "EPERM")) return otherwise;
    throw error;
  }
};
