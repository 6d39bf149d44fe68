/** Building images in tests, and the oracles that look at them: e2fsck, a loop mount, umoci. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LayeredImage } from "./index.ts";
import type { FileSystemIdentity, ImageLimits, ImageSummary, Sink } from "./index.ts";

export const IDENTITY: FileSystemIdentity = {
  uuid: Buffer.alloc(16, 0x42),
  hashSeed: Buffer.alloc(16, 0x17),
  timeSeconds: 315_532_800,
  label: "",
};
export const LIMITS: ImageLimits = { maxImageBytes: 2 ** 34, maxEntries: 1_000_000, maxMetadataBytes: 2 ** 30 };

export const withScratch = <T>(use: (directory: string) => T): T => {
  const directory = mkdtempSync(join(tmpdir(), "kiln ext4 "));
  try {
    return use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

/** What is not kept reads as zeros: for content that is too much to be written. */
type Keep = (bytes: Uint8Array) => boolean;

export const withFileSink = <T>(path: string, use: (sink: Sink, resize: (bytes: number) => void) => T, keep: Keep = () => true): T => {
  const fd = openSync(path, "w");
  const write = (offset: number, bytes: Uint8Array): void => {
    if (keep(bytes)) assert.equal(writeSync(fd, bytes, 0, bytes.length, offset), bytes.length);
  };
  try {
    return use({ write }, (bytes) => ftruncateSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
};

export interface BuildOptions {
  readonly chunkBytes?: number;
  readonly limits?: Partial<ImageLimits>;
  readonly keep?: Keep;
}

/** A whole tar, or one that is made piece by piece each time it is read. */
export type LayerTar = Uint8Array | (() => Iterable<Uint8Array>);

function* inPieces(tar: Uint8Array, pieceBytes: number): Generator<Uint8Array> {
  for (let at = 0; at < tar.length; at += pieceBytes) yield tar.subarray(at, at + pieceBytes);
}

/** Builds layers, bottom to top, into a file. Also says which layers were read twice. */
export const buildImage = (
  path: string,
  layers: readonly LayerTar[],
  options: BuildOptions = {},
): ImageSummary & { again: readonly number[] } => {
  const build = (sink: Sink, resize: (bytes: number) => void) => {
    const image = new LayeredImage({ identity: IDENTITY, limits: { ...LIMITS, ...options.limits }, layerCount: layers.length }, sink);
    const feed = (input: { write(chunk: Uint8Array): void; end(): void }, tar: LayerTar): void => {
      const pieces = typeof tar === "function" ? tar() : inPieces(tar, options.chunkBytes ?? 1 << 20);
      for (const piece of pieces) input.write(piece);
      input.end();
    };
    for (const [number, tar] of [...layers.entries()].reverse()) feed(image.readLayer(number), tar);
    const again = image.layersToReadAgain();
    for (const number of again) feed(image.readLayerAgain(number), layers[number] ?? Buffer.alloc(0));
    const summary = image.finish();
    resize(summary.sizeBytes);
    return { ...summary, again };
  };
  return withFileSink(path, build, options.keep);
};

/** e2fsck finds nothing at all. */
export const assertClean = (path: string): void => {
  const result = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
  assert.equal(result.status, 0, `e2fsck: ${result.stdout}${result.stderr}`);
};

const missing = (tool: string): string | false =>
  spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0 ? false : `${tool} is not installed`;
const needsRoot = process.getuid?.() === 0 ? false : "needs root";
export const skipMount = needsRoot || missing("mount") || missing("getfattr");
export const skipUmoci = skipMount || missing("umoci");

export const withMount = <T>(image: string, mode: "ro" | "rw", use: (directory: string) => T): T => {
  const directory = mkdtempSync(join(tmpdir(), "kiln mount "));
  try {
    execFileSync("mount", ["-o", `loop,${mode}`, image, directory]);
    try {
      return use(directory);
    } finally {
      execFileSync("umount", [directory]);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

/** Attributes of all files below a directory, as "name=0xhex" lines by latin1 path. */
const listXattrs = (directory: string): Map<string, string[]> => {
  const output = execFileSync("getfattr", ["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", "."], {
    cwd: directory,
    maxBuffer: 1 << 28,
  });
  const all = new Map<string, string[]>();
  for (const block of output.toString("latin1").split("\n\n")) {
    const [header, ...lines] = block.split("\n").filter((line) => line !== "");
    if (header === undefined) continue;
    const path = header
      .replace(/^# file: /, "")
      .replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));
    all.set(path, lines.sort());
  }
  return all;
};

export interface ListOptions {
  /** Paths ("./a/b") whose modification time is not looked at. */
  readonly withoutTimes?: (path: string) => boolean;
}

const describeContent = (path: Buffer, stat: ReturnType<typeof lstatSync> & { size: bigint }): string => {
  if (stat.isSymbolicLink()) return `-> ${readlinkSync(path, { encoding: "buffer" }).toString("latin1")}`;
  if (stat.isFile()) return createHash("sha256").update(readFileSync(path)).digest("hex");
  return "";
};

/** Every entry below a directory, with all that can be seen of it, by its path from "." on. Hard links name their group's first path. */
export const listTree = (directory: string, options: ListOptions = {}): Map<string, string> => {
  const xattrs = listXattrs(directory);
  const groups = new Map<bigint, string>();
  const listing = new Map<string, string>();
  const visit = (path: string): void => {
    const full = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, "latin1")]);
    const stat = lstatSync(full, { bigint: true });
    const isDirectory = stat.isDirectory();
    if (!groups.has(stat.ino)) groups.set(stat.ino, path);
    listing.set(
      path,
      [
        `mode ${stat.mode.toString(8)} owner ${stat.uid}:${stat.gid}`,
        `mtime ${options.withoutTimes?.(path) === true ? "-" : stat.mtimeNs}`,
        ...(isDirectory ? [] : [`size ${stat.size} links ${stat.nlink} first ${groups.get(stat.ino)}`]),
        `device ${stat.isCharacterDevice() || stat.isBlockDevice() ? stat.rdev : "-"}`,
        describeContent(full, stat),
        ...(xattrs.get(path) ?? []),
      ].join("; "),
    );
    if (!isDirectory) return;
    const names = readdirSync(full, { encoding: "buffer" }).map((name) => name.toString("latin1"));
    for (const name of names.sort()) visit(`${path}/${name}`);
  };
  visit(".");
  return listing;
};

export const assertSameTree = (actual: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): void => {
  assert.deepEqual([...actual.keys()], [...expected.keys()]);
  for (const [path, entry] of expected) assert.equal(actual.get(path), entry, path);
};

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Unpacks the layers as umoci does it: an OCI layout around them, then its own extractor. Returns null where umoci refuses them. */
export const umociUnpack = (scratch: string, layers: readonly Uint8Array[]): string | null => {
  const layout = join(scratch, "layout");
  mkdirSync(join(layout, "blobs", "sha256"), { recursive: true });
  const put = (bytes: Uint8Array, mediaType: string): { mediaType: string; digest: string; size: number } => {
    writeFileSync(join(layout, "blobs", "sha256", sha256(bytes)), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const blobs = layers.map((tar) => put(tar, "application/vnd.oci.image.layer.v1.tar"));
  const rootfs = { type: "layers", diff_ids: blobs.map((blob) => blob.digest) };
  const config = put(json({ architecture: "amd64", os: "linux", config: {}, rootfs }), "application/vnd.oci.image.config.v1+json");
  const manifest = put(json({ schemaVersion: 2, config, layers: blobs }), "application/vnd.oci.image.manifest.v1+json");
  writeFileSync(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(layout, "index.json"),
    json({ schemaVersion: 2, manifests: [{ ...manifest, annotations: { "org.opencontainers.image.ref.name": "t" } }] }),
  );
  const target = join(scratch, "unpacked");
  const result = spawnSync("umoci", ["raw", "unpack", "--image", `${layout}:t`, target], { encoding: "utf8" });
  return result.status === 0 ? target : null;
};

/** system.posix_acl_* as programs see it: version 2, then tag, permissions, id. */
export const acl = (...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]): Buffer => {
  const out = Buffer.alloc(4 + entries.length * 8);
  out.writeUInt32LE(2, 0);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    out.writeUInt16LE(tag, 4 + index * 8);
    out.writeUInt16LE(permissions, 6 + index * 8);
    out.writeUInt32LE(id ?? 0xffff_ffff, 8 + index * 8);
  }
  return out;
};
