/** What the names in the layers' tars, in their order, say of how directories came to be. Told without Kiln, from GNU tar's list. */
import { runTool } from "@kiln/std/node";
import { readLayers, type Layout } from "./unpack.ts";

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

export interface History {
  /** Directories that some layer has an entry for. A path is told as it is written, without following symlinks. */
  readonly named: ReadonlySet<string>;
  /** Directories that a layer leads through before any layer names them, or after a whiteout of them. */
  readonly implied: ReadonlySet<string>;
  /** What a layer names or leads through, and clears of what lower layers have, by a whiteout or an opaque marker on it or above it. */
  readonly cleared: ReadonlySet<string>;
}

interface Named {
  readonly path: string;
  readonly isDirectory: boolean;
}

const ESCAPES: Readonly<Record<string, string>> = { a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

/** GNU tar escapes what it cannot print, and ends the names of directories with a slash. A path begins with ".", names are apart by one slash. */
const parseLine = (line: string): Named => {
  const text = line.replaceAll(/\\([0-7]{3}|.)/g, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (ESCAPES[code] ?? code),
  );
  const names = text.split("/").filter((name) => name !== "" && name !== ".");
  return { path: [".", ...names].join("/"), isDirectory: text.endsWith("/") };
};

const listLayers = async (layout: Layout, options: { signal: AbortSignal }): Promise<Named[][]> => {
  const layers: Named[][] = [];
  for (const { path } of await readLayers(layout)) {
    const list = ["--list", "--quoting-style=escape", "--file", path];
    const { stdout } = await runTool("tar", list, { ...options, maxOutputBytes: 1 << 28, env: { ...process.env, LC_ALL: "C" } });
    layers.push(Buffer.from(stdout).toString("latin1").split("\n").slice(0, -1).map(parseLine));
  }
  return layers;
};

/** "./a/b": ".", "./a", "./a/b". */
const withParents = (path: string): string[] => {
  const parts = path.split("/");
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
};

/** What an entry clears; null if it is none of the markers. */
const clears = (path: string): string | null => {
  const slash = path.lastIndexOf("/");
  const [parent, name] = [path.slice(0, slash), path.slice(slash + 1)];
  if (name === OPAQUE) return parent;
  return name.startsWith(WHITEOUT) ? `${parent}/${name.slice(WHITEOUT.length)}` : null;
};

const collectCleared = (layer: readonly Named[], cleared: Set<string>): void => {
  const markers = new Set(layer.map(({ path }) => clears(path)).filter((path) => path !== null));
  if (markers.size === 0) return;
  for (const { path } of layer) {
    const chain = clears(path) === null ? withParents(path) : withParents(path).slice(0, -1);
    const from = chain.findIndex((one) => markers.has(one));
    if (from !== -1) for (const one of chain.slice(from)) cleared.add(one);
  }
};

/** Directories that are there, as far as names tell. */
class Directories {
  readonly named = new Set<string>();
  readonly implied = new Set<string>();
  readonly #there = new Set<string>();

  take({ path, isDirectory }: Named): void {
    const chain = withParents(path);
    for (const parent of chain.slice(0, -1)) {
      if (!this.#there.has(parent)) this.implied.add(parent);
      this.#there.add(parent);
    }
    if (isDirectory) {
      this.named.add(path);
      this.#there.add(path);
    } else {
      const gone = clears(path) ?? path;
      for (const one of this.#there) if (one.startsWith(`${gone}/`)) this.#there.delete(one);
      if (!path.endsWith(`/${OPAQUE}`)) this.#there.delete(gone);
    }
  }
}

export const readHistory = async (layout: Layout, options: { signal: AbortSignal }): Promise<History> => {
  const cleared = new Set<string>();
  const directories = new Directories();
  for (const layer of await listLayers(layout, options)) {
    collectCleared(layer, cleared);
    for (const entry of layer) directories.take(entry);
  }
  return { named: directories.named, implied: directories.implied, cleared };
};
