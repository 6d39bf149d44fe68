/** A name as its raw bytes, one character (0 to 255) per byte: names that are not UTF-8 survive and compare bytewise. */
export type RawName = string;

export const rawNameBytes = (name: RawName): Uint8Array => Buffer.from(name, "latin1");

/** For messages: what the bytes say in UTF-8. */
export const rawNameText = (name: RawName): string => JSON.stringify(Buffer.from(name, "latin1").toString("utf8"));

export const TAR_ENTRY_TYPES = ["file", "hardlink", "symlink", "character", "block", "directory", "fifo"] as const;
export type TarEntryType = (typeof TAR_ENTRY_TYPES)[number];

/** A point in time: whole seconds since 1970 (may be negative) and 0 to 999,999,999 nanoseconds after them. */
export interface TarTime {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface TarEntry {
  readonly type: TarEntryType;
  /** As written, neither normalised nor checked. */
  readonly path: RawName;
  /** Target of a symlink or hard link; empty otherwise. */
  readonly linkPath: RawName;
  /** Permission bits with set-id and sticky, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content after sparse expansion; 0 for everything but files. */
  readonly sizeBytes: number;
  readonly modifiedAt: TarTime;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Full name ("user.x", "security.capability") to value; from SCHILY.xattr and LIBARCHIVE.xattr. */
  readonly xattrs: ReadonlyMap<RawName, Uint8Array>;
  /** Where its (first extended) header begins in the stream. */
  readonly offset: number;
}

/** What is called with each part of a tar, in order. It may throw: the error leaves `TarParser.write` unchanged. */
export interface TarVisitor {
  /** A new entry; return whether its content is wanted. */
  entry(entry: TarEntry): boolean;
  /** The next bytes of a wanted entry's content. They are only valid during the call. */
  data(bytes: Uint8Array): void;
  /** The next `lengthBytes` of a wanted entry's content are zero: a hole of a sparse file. */
  hole(lengthBytes: number): void;
  /** The content of a wanted entry is complete. */
  end(): void;
}
