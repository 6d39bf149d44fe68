import { loadOrder, moduleName, type ModuleInfo, type ModuleLinks } from "./module-info.ts";
import { type TrieEntry, writeTrie } from "./module-trie.ts";

/** What depmod writes beside modules, so that modprobe finds them (modules.dep(5), depmod(8)). */

export interface IndexedModule extends ModuleInfo {
  /** Below /lib/modules/RELEASE. */
  readonly path: string;
}

export interface ModuleTree {
  readonly modules: ReadonlyMap<string, IndexedModule>;
  /** The package's own modules.order, modules.builtin and modules.builtin.modinfo, as text. */
  readonly order: string;
  readonly builtin: string;
  readonly builtinModinfo: string;
}

/** The index files by name. A function of the tree. Throws KernelFormatError INVALID for modules that need what is not there. */
export const indexModules = (tree: ModuleTree): ReadonlyMap<string, Uint8Array> => {
  const sorted = inOrder(tree);
  const hard = new Map([...tree.modules].map(([name, { depends }]) => [name, { depends, softDependsBefore: [] }]));
  const dependencies = sorted.map((module) => dependencyLine(module, tree.modules, hard));
  const aliases = sorted.flatMap(({ name, aliases: own }, priority) =>
    own.map((alias) => ({ key: normalAlias(alias), value: name, priority })),
  );
  const builtin = lines(tree.builtin).map((path) => ({ key: nameOf(path), value: "", priority: 0 }));
  const text = (header: string, body: readonly string[]): Uint8Array =>
    new TextEncoder().encode([...(header === "" ? [] : [header]), ...body, ""].join("\n"));
  return new Map([
    ["modules.dep", text("", dependencies)],
    ["modules.dep.bin", writeTrie(sorted.map(({ name }, priority) => ({ key: name, value: dependencies[priority] ?? "", priority })))],
    [
      "modules.alias",
      text(
        "# Aliases extracted from modules themselves.",
        sorted.flatMap(({ name, aliases: own }) => own.map((alias) => `alias ${alias} ${name}`)),
      ),
    ],
    ["modules.alias.bin", writeTrie(aliases)],
    ["modules.softdep", text("# Soft dependencies extracted from modules themselves.", sorted.flatMap(softdepLines))],
    ["modules.builtin.bin", writeTrie(builtin)],
    ["modules.builtin.alias.bin", writeTrie(builtinAliases(tree.builtinModinfo))],
    // symbols are resolved through dependencies; only a lookup of "symbol:NAME" would ask here
    ["modules.symbols.bin", writeTrie([])],
  ]);
};

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

const nameOf = (path: string): string => moduleName(path.slice(path.lastIndexOf("/") + 1).replace(/\.ko.*$/, ""));

/** The order in which the kernel's build linked them decides between modules with the same alias. */
const inOrder = (tree: ModuleTree): IndexedModule[] => {
  const place = new Map(lines(tree.order).map((path, index) => [nameOf(path), index]));
  const last = place.size;
  return [...tree.modules.values()].sort((a, b) => (place.get(a.name) ?? last) - (place.get(b.name) ?? last) || (a.path < b.path ? -1 : 1));
};

/** `PATH: DEPENDENCY…`; modprobe loads from the end. */
const dependencyLine = (
  module: IndexedModule,
  modules: ReadonlyMap<string, IndexedModule>,
  hard: ReadonlyMap<string, ModuleLinks>,
): string => {
  const needed = loadOrder([module.name], hard).slice(0, -1).reverse();
  return [`${module.path}:`, ...needed.map((name) => modules.get(name)?.path ?? name)].join(" ");
};

/** Dashes are underscores, except in the character classes of patterns. */
const normalAlias = (alias: string): string => alias.replace(/\[[^\]]*\]|-/g, (part) => (part === "-" ? "_" : part));

const softdepLines = (module: IndexedModule): string[] => {
  const { name, softDependsBefore: before, softDependsAfter: after } = module;
  if (before.length + after.length === 0) return [];
  return [["softdep", name, ...(before.length > 0 ? ["pre:", ...before] : []), ...(after.length > 0 ? ["post:", ...after] : [])].join(" ")];
};

/** Records `MODULE.alias=PATTERN`, each ended by a zero byte. */
const builtinAliases = (modinfo: string): TrieEntry[] =>
  modinfo.split("\0").flatMap((record) => {
    const [, name, alias] = /^([^.]+)\.alias=(.+)$/s.exec(record) ?? [];
    return name === undefined || alias === undefined ? [] : [{ key: normalAlias(alias), value: moduleName(name), priority: 0 }];
  });
