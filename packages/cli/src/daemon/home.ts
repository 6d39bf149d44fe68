import { stat } from "node:fs/promises";
import { hasErrno } from "../errno.ts";
import { KilnError } from "@kiln/protocol/errors";
import { makeDirectories } from "@kiln/std/node";

/**
 * Makes sure that the home is a directory of this user before a daemon is started in it; a missing one is made with
 * mode 0700. Throws HOME_INVALID, PERMISSION_DENIED.
 */
export const ensureHome = async (home: string, uid: number | null): Promise<void> => {
  try {
    await makeDirectories(home, 0o700);
    const found = await stat(home);
    if (!found.isDirectory()) throw new KilnError("HOME_INVALID", `the home ${home} is not a directory`, { object: home });
    if (uid !== null && found.uid !== uid) {
      throw new KilnError("HOME_INVALID", `the home ${home} belongs to the user ${found.uid}, not to ${uid}`, { object: home });
    }
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    if (hasErrno(cause, "EACCES", "EPERM", "EROFS"))
      throw new KilnError("PERMISSION_DENIED", `no permission to use the home ${home}`, { cause, object: home });
    if (hasErrno(cause, "EEXIST", "ENOTDIR"))
      throw new KilnError("HOME_INVALID", `the home ${home} is not a directory`, { cause, object: home });
    if (hasErrno(cause, "ENAMETOOLONG", "ENOENT"))
      throw new KilnError("HOME_INVALID", `the home ${home} cannot be made`, { cause, object: home });
    throw cause;
  }
};
