import { join } from "node:path";

export const resolveFrom = (cwd: string, path: string): string => (path.startsWith("/") ? path : join(cwd, path));

/**
 * Splits `PATH[:TAG]`. As skopeo does, the first colon ends the path, so that tags may hold colons; where that is
 * nothing that `isThere` knows, but a later colon or none gives something, that counts. An empty tag is none.
 */
export const splitPath = async (
  text: string,
  isThere: (path: string) => Promise<boolean>,
): Promise<{ readonly path: string; readonly tag: string | null }> => {
  const splits: { readonly path: string; readonly tag: string | null }[] = [];
  for (let at = text.indexOf(":"); at !== -1; at = text.indexOf(":", at + 1)) {
    if (at > 0) splits.push({ path: text.slice(0, at), tag: text.slice(at + 1) || null });
  }
  const whole = { path: text, tag: null };
  splits.push(whole);
  for (const split of splits) if (await isThere(split.path)) return split;
  return splits[0] ?? whole;
};
