/** What tests of the reader share: sources, listings in the form of image.fixture.ts, and images in memory. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { rawNameText, TarParser } from "../../tar/index.ts";
import type { TarEntry } from "../../tar/index.ts";
import { LayeredImage } from "../index.ts";
import { MODE } from "../disk/constants.ts";
import { Ext4Reader } from "./index.ts";
import type { ByteSource, Ext4Entry, ReadLimits } from "./index.ts";

export const memorySource = (bytes: Uint8Array): ByteSource => ({
  sizeBytes: bytes.length,
  read: (offset, length) => {
    if (offset < 0 || offset + length > bytes.length) throw new RangeError(`read of ${length} bytes at ${offset}, of ${bytes.length}`);
    return bytes.subarray(offset, offset + length);
  },
});

export const withImage = <T>(path: string, use: (reader: Ext4Reader) => T, limits: Partial<ReadLimits> = {}): T => {
  const fd = openSync(path, "r");
  try {
    const read = (offset: number, length: number): Uint8Array => {
      const bytes = Buffer.allocUnsafeSlow(length);
      if (readSync(fd, bytes, 0, length, offset) !== length) throw new RangeError(`read of ${length} bytes at ${offset}`);
      return bytes;
    };
    return use(Ext4Reader.open({ sizeBytes: fstatSync(fd).size, read }, limits));
  } finally {
    closeSync(fd);
  }
};

/** Builds layers, bottom to top, in memory. */
export const buildInMemory = (layers: readonly Uint8Array[]): Buffer => {
  const written: { offset: number; bytes: Uint8Array }[] = [];
  const sink = { write: (offset: number, bytes: Uint8Array) => void written.push({ offset, bytes: Uint8Array.from(bytes) }) };
  const identity = { uuid: Buffer.alloc(16, 0x42), hashSeed: Buffer.alloc(16, 0x17), timeSeconds: 315_532_800, label: "kiln" };
  const limits = { maxImageBytes: 2 ** 30, maxEntries: 1_000_000, maxMetadataBytes: 2 ** 30 };
  const image = new LayeredImage({ identity, limits, layerCount: layers.length }, sink);
  const feed = (input: { write(chunk: Uint8Array): void; end(): void }, tar: Uint8Array): void => {
    input.write(tar);
    input.end();
  };
  for (const [number, tar] of [...layers.entries()].reverse()) feed(image.readLayer(number), tar);
  for (const number of image.layersToReadAgain()) feed(image.readLayerAgain(number), layers[number] ?? Buffer.alloc(0));
  const bytes = Buffer.alloc(image.finish().sizeBytes);
  for (const piece of written) bytes.set(piece.bytes, piece.offset);
  return bytes;
};

const SOCKET_FORMAT = 0o140_000;

const deviceNumber = ({ inode }: Ext4Entry): string => {
  const { major, minor } = inode.rdev;
  const [high, low] = [BigInt(major), BigInt(minor)];
  const number = ((high & 0xfffn) << 8n) | (low & 0xffn) | ((low & ~0xffn) << 12n);
  return inode.type === "character" || inode.type === "block" ? String(number) : "-";
};

const describeContent = (reader: Ext4Reader, { inode }: Ext4Entry): string => {
  if (inode.type === "symlink") return `-> ${Buffer.from(reader.readLink(inode)).toString("latin1")}`;
  return inode.type === "file" ? createHash("sha256").update(readWhole(reader, inode.number)).digest("hex") : "";
};

/** A file's content with its holes as zeros. */
export const readWhole = (reader: Ext4Reader, number: number): Buffer => {
  const inode = reader.inode(number);
  const whole = Buffer.alloc(inode.sizeBytes);
  let position = 0;
  for (const { offset, bytes } of reader.content(inode)) {
    assert.ok(offset >= position, "pieces are in order and apart");
    whole.set(bytes, offset);
    position = offset + bytes.length;
  }
  assert.ok(position <= inode.sizeBytes);
  return whole;
};

/** Every entry that the reader sees, in the form of `listTree`, for comparison with what a mount shows. */
export const listImage = (reader: Ext4Reader, options: { readonly withoutTimes?: (path: string) => boolean } = {}): Map<string, string> => {
  const groups = new Map<number, string>();
  const listing = new Map<string, string>();
  for (const entry of reader.walk()) {
    const { inode } = entry;
    const path = entry.path === "" ? "." : `./${entry.path}`;
    if (!groups.has(inode.number)) groups.set(inode.number, path);
    const format = inode.type === "socket" ? SOCKET_FORMAT : MODE[inode.type];
    const mtime = BigInt(inode.mtime.seconds) * 1_000_000_000n + BigInt(inode.mtime.nanoseconds);
    const xattrs = reader.xattrs(inode).map(({ name, value }) => `${name}=0x${Buffer.from(value).toString("hex")}`);
    listing.set(
      path,
      [
        `mode ${(format | inode.mode).toString(8)} owner ${inode.uid}:${inode.gid}`,
        `mtime ${options.withoutTimes?.(path) === true ? "-" : mtime}`,
        ...(inode.type === "directory" ? [] : [`size ${inode.sizeBytes} links ${inode.links} first ${groups.get(inode.number)}`]),
        `device ${deviceNumber(entry)}`,
        describeContent(reader, entry),
        ...xattrs.sort(),
      ].join("; "),
    );
  }
  return listing;
};

export interface ReadMember {
  readonly entry: TarEntry;
  readonly content: Buffer;
  readonly holeBytes: number;
}

/** What Kiln's own parser makes of a tar, by path. */
export const readTar = (pieces: Iterable<Uint8Array>): Map<string, ReadMember> => {
  const members = new Map<string, ReadMember>();
  let current: { entry: TarEntry; parts: Buffer[]; holeBytes: number } | null = null;
  const parser = new TarParser({
    entry: (entry) => {
      assert.ok(!members.has(entry.path), `${rawNameText(entry.path)} is there twice`);
      current = { entry, parts: [], holeBytes: 0 };
      if (entry.type !== "file") members.set(entry.path, { entry, content: Buffer.alloc(0), holeBytes: 0 });
      return true;
    },
    data: (bytes) => current?.parts.push(Buffer.from(bytes)),
    hole: (length) => {
      current?.parts.push(Buffer.alloc(length));
      if (current !== null) current.holeBytes += length;
    },
    end: () => {
      if (current === null) return;
      const { entry, parts, holeBytes } = current;
      members.set(entry.path, { entry, content: Buffer.concat(parts), holeBytes });
    },
  });
  for (const piece of pieces) parser.write(piece);
  parser.end();
  return members;
};
