import { rawNameText } from "../../tar/index.ts";
import type { RawName } from "../../tar/index.ts";
import { MAX_NAME_BYTES } from "../disk/constants.ts";
import { Ext4Error } from "../errors.ts";

/**
 * The names of a path below the root: leading slashes and "." are dropped, so an absolute path is one below the root.
 * ".." is refused anywhere: no tool writes it and readers disagree on it. The root itself is [].
 * Throws Ext4Error PATH_UNSAFE or NAME_TOO_LONG.
 */
export const parsePath = (path: RawName): RawName[] => {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  for (const name of names) {
    if (name === "..") throw new Ext4Error("PATH_UNSAFE", `the path ${rawNameText(path)} climbs with ".."`);
    if (name.length > MAX_NAME_BYTES)
      throw new Ext4Error("NAME_TOO_LONG", `a name in ${rawNameText(path)} is longer than ${MAX_NAME_BYTES} bytes`);
  }
  return names;
};
