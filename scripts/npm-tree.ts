/**
 * Exits 0 if node_modules of the checkout given as argument is what its package-lock.json asks for, 1 with
 * the first difference otherwise. npm writes node_modules/.package-lock.json last, after every package.
 * The bootstrap runs it: Node's own modules only.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface LockedPackage {
  readonly version?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}

/** An optional package is left out where it is made for another machine. The pinned Node is linked with glibc. */
const isForThisMachine = ({ os, cpu, libc }: LockedPackage): boolean =>
  os?.includes(process.platform) === true && cpu?.includes(process.arch) === true && libc?.includes("glibc") !== false;

const readPackages = (path: string): Readonly<Record<string, LockedPackage>> => {
  const lock = JSON.parse(readFileSync(path, "utf8")) as { readonly packages: Readonly<Record<string, LockedPackage>> };
  return lock.packages;
};

/** Null if there is none. */
export const findDifference = (root: string): string | null => {
  const hiddenLock = join(root, "node_modules/.package-lock.json");
  if (!existsSync(hiddenLock)) return "node_modules was never installed as a whole";
  const installed = readPackages(hiddenLock);
  for (const [path, wanted] of Object.entries(readPackages(join(root, "package-lock.json")))) {
    if (!path.startsWith("node_modules/")) continue;
    const found = installed[path];
    if (found === undefined && wanted.optional === true && !isForThisMachine(wanted)) continue;
    if (found === undefined) return `${path} is missing`;
    if (wanted.link !== true && found.integrity !== wanted.integrity) return `${path} is not version ${wanted.version}`;
    if (!existsSync(join(root, path, "package.json"))) return `${path} was removed`;
  }
  return null;
};

if (import.meta.main) {
  const difference = findDifference(process.argv[2] ?? ".");
  if (difference !== null) console.log(difference);
  process.exitCode = difference === null ? 0 : 1;
}
