/** Generated images: stacks of layers with everything that a layer can say, as fast-check draws them. */
import fc from "fast-check";

export const TYPES = ["file", "directory", "symlink", "hardlink", "character", "block", "fifo"] as const;

/** Text is bytes as characters. */
export interface LayerEntry {
  readonly type: (typeof TYPES)[number];
  readonly path: string;
  readonly link: string;
  /** How the archive spells the path: what stands before it, and between its names. */
  readonly spelling: Spelling;
  readonly content: string;
  /** A file's: where it has holes of a megabyte, besides its content. GNU tar writes them; with Python it is without. */
  readonly sparse: Sparse;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds, or seconds and a fraction. */
  readonly mtime: string;
  readonly device: readonly [number, number];
  readonly xattrs: Readonly<Record<string, string>>;
}

export const SPARSE = ["none", "start", "middle", "end", "only", "many"] as const;
export type Sparse = (typeof SPARSE)[number];

export interface Spelling {
  readonly before: string;
  readonly between: string;
}

/** A path as the archive has it. */
export const spell = ({ path, spelling }: Pick<LayerEntry, "path" | "spelling">): string =>
  spelling.before + path.replaceAll("/", spelling.between);

/** Who writes the layer, and in which format. */
export const WRITERS = [
  "python pax",
  "python gnu",
  "python ustar",
  "tar gnu",
  "tar pax",
  "tar pax 0.0",
  "tar pax 0.1",
  "tar ustar",
] as const;
export type Writer = (typeof WRITERS)[number];

export interface Layer {
  readonly writer: Writer;
  readonly gzip: boolean;
  /** Whether Kiln gets it as an overlay keeps it: whiteouts as 0:0 devices, all but the first as hard links, and its own attributes. */
  readonly overlay: boolean;
  readonly entries: readonly LayerEntry[];
}

export type Stack = readonly Layer[];

const LONG = "a-name-of-a-hundred-and-more-bytes-".repeat(4);
const NAMES = ["a", "b", "c", "d", LONG, "\xc3\xa9\xff", " -rf", "new\nline", "\\1", "..a", "*"] as const;

/** Most paths are short, so that layers meet. */
const name = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...NAMES.slice(0, 4)) }, { weight: 1, arbitrary: fc.constantFrom(...NAMES) });
const names = fc.array(name, { minLength: 1, maxLength: 3 });
const path = names.map((parts) => parts.join("/"));
const plainSpelling: Spelling = { before: "", between: "/" };
const spelling: fc.Arbitrary<Spelling> = fc.oneof(
  { weight: 6, arbitrary: fc.constant(plainSpelling) },
  {
    weight: 2,
    arbitrary: fc.record({ before: fc.constantFrom("", "./", "/", "//", "././"), between: fc.constantFrom("/", "//", "/./") }),
  },
);
const whiteout = names.map((parts) => [...parts.slice(0, -1), `.wh.${parts.at(-1)}`].join("/"));
const opaque = names.map((parts) => `${parts.join("/")}/.wh..wh..opq`);

/** Versions 2 and 3 of the kernel's structure: cap_net_bind_service, cap_net_raw. */
const CAPABILITIES = ["0100000200240000000000000000000000000000", "010000030024000000000000000000000000000064000000"];
const bytes = (hex: string): string => Buffer.from(hex, "hex").toString("latin1");

const acl = (...entries: readonly (readonly [tag: number, permissions: number, id: number])[]): string => {
  const out = Buffer.alloc(4 + entries.length * 8);
  out.writeUInt32LE(2, 0);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    out.writeUInt16LE(tag, 4 + index * 8);
    out.writeUInt16LE(permissions, 6 + index * 8);
    out.writeUInt32LE(id >>> 0, 8 + index * 8);
  }
  return out.toString("latin1");
};
/** user::rwx, user:1000:r-x, group::r-x, group:42:rwx, mask::rwx, other::---: with an entry's mode 0770. */
const ACL = acl([1, 7, -1], [2, 5, 1000], [4, 5, -1], [8, 7, 42], [16, 7, -1], [32, 0, -1]);
const ACL_MODE = 0o770;

const xattrs = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.record(
      {
        "user.text": fc.constantFrom("v", "a=b\nc", "", "\xff\0\x01", "long".repeat(300)),
        "user.other": fc.constantFrom("x", "y".repeat(60)),
        "user.block": fc.constantFrom("b".repeat(2000), "\0".repeat(300)),
        "trusted.kept": fc.constantFrom("t", "\0"),
        "security.capability": fc.constantFrom(...CAPABILITIES.map(bytes)),
      },
      { requiredKeys: [] },
    ),
  },
  // as much as a block holds, and as much as fits beside an inode
  { weight: 1, arbitrary: fc.constantFrom<Record<string, string>>({ "user.b": "f".repeat(4040) }, { "user.i": "f".repeat(68) }) },
);
const owner = fc.constantFrom(0, 0, 0, 1000, 65_535, 65_536, 2_097_152, 4_000_000_000, 4_294_967_294);
/** Before 1970, and behind 2038 in the second and the third of ext4's four ages; umoci's own times end in 2262. */
const FAR_TIMES = ["-1.5", "-0.000000001", "-2147483648", "2147483647.999999999", "2147483648", "4294967296.5", "9000000000.75"];
const common = {
  mode: fc.constantFrom(0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0),
  uid: owner,
  gid: owner,
  mtime: fc.constantFrom("1600000000", "1700000000.25", "1.000000001", "0", ...FAR_TIMES),
  xattrs,
};
const plain = { link: "", spelling: plainSpelling, content: "", sparse: "none", device: [0, 0] } as const;
const content = fc.oneof(
  fc.constantFrom("", "x", "0123456789abcdef".repeat(256), "z".repeat(10_000)),
  fc.string({ maxLength: 12 }).map((text) => text.repeat(500)),
);

const entry = <T extends LayerEntry["type"]>(type: T, more: Partial<Record<keyof LayerEntry, fc.Arbitrary<unknown>>> = {}) =>
  fc.record({ ...common, path, spelling, ...more }).map((drawn) => ({ ...plain, type, ...drawn }) as LayerEntry);
const marker = (paths: fc.Arbitrary<string>) =>
  fc
    .record({ path: paths, spelling })
    .map((drawn): LayerEntry => ({ ...plain, ...drawn, type: "file", mode: 0, uid: 0, gid: 0, mtime: "0", xattrs: {} }));

/** What carries an ACL has the mode that goes with it, as on a disk; or another, as only an archive can say it. */
const withAcl = (type: "file" | "directory") =>
  fc.record({ path, uid: owner, mode: fc.constantFrom(ACL_MODE, ACL_MODE, 0o4755) }).map(({ path, uid, mode }): LayerEntry => ({
    ...plain,
    type,
    path,
    uid,
    gid: 0,
    mode,
    mtime: "1600000000",
    xattrs: { "system.posix_acl_access": ACL, ...(type === "directory" ? { "system.posix_acl_default": ACL } : {}) },
  }));

/** A target of so many bytes, of names that a file can have. */
const longTarget = (length: number): string => "target-of-a-symlink/".repeat(Math.ceil(length / 20)).slice(0, length);
const target = fc.oneof(
  path,
  fc.constantFrom(1, 59, 60, 61, 1000, 4095).map(longTarget),
  path.map((one) => `/${one}`),
  path.map((one) => `../${one}`),
);
const device = fc.constantFrom([1, 3], [259, 7], [5, 70_000], [4095, 1_048_575]);

const layerEntry: fc.Arbitrary<LayerEntry> = fc.oneof(
  { weight: 8, arbitrary: entry("file", { content }) },
  { weight: 1, arbitrary: entry("file", { content, sparse: fc.constantFrom(...SPARSE) }) },
  { weight: 6, arbitrary: entry("directory") },
  { weight: 2, arbitrary: entry("symlink", { link: target, xattrs: fc.constant({}) }) },
  { weight: 3, arbitrary: entry("hardlink", { link: path, xattrs: fc.constant({}) }) },
  { weight: 1, arbitrary: entry("character", { device, xattrs: fc.constant({}) }) },
  { weight: 1, arbitrary: entry("block", { device, xattrs: fc.constant({}) }) },
  { weight: 1, arbitrary: entry("fifo", { xattrs: fc.constant({}) }) },
  { weight: 1, arbitrary: withAcl("file") },
  { weight: 1, arbitrary: withAcl("directory") },
  { weight: 3, arbitrary: marker(whiteout) },
  { weight: 1, arbitrary: marker(opaque) },
  { weight: 1, arbitrary: entry("directory", { path: fc.constant("."), xattrs: fc.constant({}) }) },
);

/** Every parent before what is in it, as docker, buildkit and umoci write layers; other tools leave parents out. */
const withParents = (entries: readonly LayerEntry[]): LayerEntry[] => {
  const named = new Set<string>();
  const directory = (path: string): LayerEntry => ({
    ...plain,
    type: "directory",
    path,
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: "7",
    xattrs: {},
  });
  return entries.flatMap((one) => {
    const parts = one.path.split("/").slice(0, -1);
    const missing = parts.map((_, index) => parts.slice(0, index + 1).join("/")).filter((path) => !named.has(path));
    for (const path of [...missing, one.path]) named.add(path);
    return [...missing.map(directory), one];
  });
};

const layer: fc.Arbitrary<Layer> = fc
  .record({
    writer: fc.constantFrom(...WRITERS),
    gzip: fc.boolean(),
    overlay: fc.constantFrom(false, false, true),
    entries: fc.array(layerEntry, { minLength: 2, maxLength: 24, size: "max" }),
    parents: fc.constantFrom(true, true, false),
  })
  .map(({ parents, ...drawn }) => ({ ...drawn, entries: parents ? withParents(drawn.entries) : drawn.entries }));

/** Symlinks of this length or longer keep their target: it is there for its length. */
const INLINE_BYTES = 59;

/** Kinds of what is at a path, as far as it can be told without following symlinks. */
class Sketch {
  readonly #kinds = new Map<string, LayerEntry["type"]>();

  /** The entry as umoci takes it: hard links lead to what is there. Null: a file is in the way, which umoci refuses. */
  place(entry: LayerEntry, draw: number): LayerEntry | null {
    const parts = entry.path.split("/");
    const parents = parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
    const isBlocked = parents.some((parent) => !["directory", "symlink", undefined].includes(this.#kinds.get(parent)));
    if (isBlocked) return null;
    const placed = this.#aim(entry, draw);
    if (placed === null) return null;
    for (const parent of parents) if (!this.#kinds.has(parent)) this.#kinds.set(parent, "directory");
    const name = parts.at(-1) ?? "";
    if (name.startsWith(".wh.")) this.#remove([...parts.slice(0, -1), name.slice(4)].join("/"));
    else this.#put(placed);
    return placed;
  }

  #put(entry: LayerEntry): void {
    if (entry.type !== "directory") this.#remove(entry.path);
    this.#kinds.set(entry.path, entry.type);
  }

  #remove(path: string): void {
    for (const known of this.#kinds.keys()) if (known === path || known.startsWith(`${path}/`)) this.#kinds.delete(known);
  }

  /** Hard links, and most symlinks, with a target that is there. */
  #aim(entry: LayerEntry, draw: number): LayerEntry | null {
    if (entry.type === "symlink" && entry.link.length < INLINE_BYTES && draw % 4 > 0) {
      const directories = this.#among(entry, (kind) => kind === "directory");
      const target = directories[draw % directories.length];
      return target === undefined ? entry : { ...entry, link: `/${target}` };
    }
    if (entry.type !== "hardlink") return entry;
    const targets = this.#among(entry, (kind) => kind !== "directory");
    const link = targets[draw % targets.length];
    return link === undefined ? null : { ...entry, link };
  }

  #among(entry: LayerEntry, isWanted: (kind: LayerEntry["type"]) => boolean): string[] {
    const apart = (path: string): boolean => !`${path}/`.startsWith(`${entry.path}/`) && !`${entry.path}/`.startsWith(`${path}/`);
    return [...this.#kinds].filter(([path, kind]) => isWanted(kind) && apart(path)).map(([path]) => path);
  }
}

/** Most of what is drawn at random would be refused; this is what layers of containers can be. */
const sound = (stack: Stack): Stack => {
  const sketch = new Sketch();
  let draw = 0;
  return stack.map((layer) => ({
    ...layer,
    entries: layer.entries.flatMap((entry) => {
      draw += 1;
      return sketch.place(entry, draw) ?? [];
    }),
  }));
};

export const stacks: fc.Arbitrary<Stack> = fc.array(layer, { minLength: 1, maxLength: 4 }).map(sound);
