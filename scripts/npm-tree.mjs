/**
 * Exits 0 if node_modules of the checkout given as argument is what its package-lock.json asks for, 1 with
 * the first difference otherwise. npm writes node_modules/.package-lock.json last, after every package.
 * Runs before there is any library: plain JavaScript, Node's own modules only.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** @param {string} path @returns {Record<string, { version?: string, integrity?: string, link?: boolean, optional?: boolean }>} */
const readPackages = (path) => JSON.parse(readFileSync(path, "utf8")).packages;

/** @param {string} root @returns {string | null} the first difference */
const findDifference = (root) => {
  const hiddenLock = join(root, "node_modules/.package-lock.json");
  if (!existsSync(hiddenLock)) return "node_modules was never installed as a whole";
  const installed = readPackages(hiddenLock);
  for (const [path, wanted] of Object.entries(readPackages(join(root, "package-lock.json")))) {
    if (!path.startsWith("node_modules/")) continue;
    const found = installed[path];
    if (found === undefined && wanted.optional) continue;
    if (found === undefined) return `${path} is missing`;
    if (!wanted.link && found.integrity !== wanted.integrity) return `${path} is not version ${wanted.version}`;
    if (!existsSync(join(root, path, "package.json"))) return `${path} was removed`;
  }
  return null;
};

const difference = findDifference(process.argv[2] ?? ".");
if (difference !== null) console.log(difference);
process.exitCode = difference === null ? 0 : 1;
