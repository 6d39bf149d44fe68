import { ElfFile } from "./elf.ts";
import { KernelFormatError } from "./errors.ts";

/** What a module says of itself in its `.modinfo` section. Names have underscores, as the kernel compares them. */
export interface ModuleInfo {
  readonly name: string;
  readonly depends: readonly string[];
  /** Loaded before it where they are modules: `softdep: pre: …`. */
  readonly softDependsBefore: readonly string[];
  readonly softDependsAfter: readonly string[];
  readonly aliases: readonly string[];
}

/** `virtio-rng` and `virtio_rng` are one module. */
export const moduleName = (text: string): string => text.replaceAll("-", "_");

const words = (text: string): string[] => text.split(/[\s,]+/).filter((word) => word !== "");

/** Throws KernelFormatError INVALID. */
export const readModuleInfo = (module: Uint8Array): ModuleInfo => {
  const section = new ElfFile(module).section(".modinfo");
  if (section === null) throw new KernelFormatError("INVALID", "the module has no .modinfo section");
  const fields = new TextDecoder("latin1")
    .decode(section)
    .split("\0")
    .map((field) => field.split(/=(.*)/s, 2));
  const values = (key: string): string[] => fields.flatMap(([name, value]) => (name === key && value !== undefined ? [value] : []));
  const [name] = values("name");
  if (name === undefined) throw new KernelFormatError("INVALID", "the module does not say its name");
  const soft = values("softdep").map(parseSoftDependency);
  return {
    name: moduleName(name),
    depends: values("depends").flatMap(words).map(moduleName),
    softDependsBefore: soft.flatMap((one) => one.before),
    softDependsAfter: soft.flatMap((one) => one.after),
    aliases: values("alias"),
  };
};

/** `pre: a b post: c`. */
const parseSoftDependency = (text: string): { before: string[]; after: string[] } => {
  const result: { before: string[]; after: string[] } = { before: [], after: [] };
  let list = result.before;
  for (const word of words(text)) {
    if (word === "pre:") list = result.before;
    else if (word === "post:") list = result.after;
    else list.push(moduleName(word));
  }
  return result;
};

/** Of a module, what its load order depends on. */
export type ModuleLinks = Pick<ModuleInfo, "depends" | "softDependsBefore">;

/**
 * The wanted modules and all that they need, each after what it needs and otherwise in the order asked for. What is
 * not in `modules` is taken to be built in if it is a soft dependency. Throws KernelFormatError INVALID for a module
 * that is missing or needs itself.
 */
export const loadOrder = (wanted: readonly string[], modules: ReadonlyMap<string, ModuleLinks>): readonly string[] => {
  const done = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (done.has(name)) return;
    if (path.includes(name)) throw new KernelFormatError("INVALID", `modules need each other: ${[...path, name].join(", ")}`);
    const links = modules.get(name);
    if (links === undefined)
      throw new KernelFormatError("INVALID", `there is no module ${name}${path.length === 0 ? "" : `, which ${path.at(-1)} needs`}`);
    const before = links.softDependsBefore.filter((one) => modules.has(one));
    for (const needed of [...before, ...links.depends]) visit(needed, [...path, name]);
    done.add(name);
  };
  for (const name of wanted) visit(name, []);
  return [...done];
};
