import { createHash } from "node:crypto";
import { posix } from "node:path";
import { listTarMembers, rawNameText, type RawName, type TarMember } from "@kiln/formats/tar";
import type { LayoutBlob } from "@kiln/sdk";
import { archiveError, asArchiveError } from "./archive-error.ts";
import type { ArchiveFile } from "./archive-file.ts";
import { ARCHIVE_LIMITS } from "./limits.ts";

/** A file of the archive, links followed. */
export interface Located {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** The members of an archive by their names, read where they lie. Nothing is ever written under a member's name. */
export class ArchiveTar {
  readonly #file: ArchiveFile;
  readonly #members: ReadonlyMap<RawName, TarMember>;

  private constructor(file: ArchiveFile, members: ReadonlyMap<RawName, TarMember>) {
    this.#file = file;
    this.#members = members;
  }

  /** One pass over the headers. Throws IMAGE_INVALID for what is no tar, a hostile name, and a name that is there twice. */
  static async open(file: ArchiveFile, options: { readonly signal: AbortSignal }): Promise<ArchiveTar> {
    const members = new Map<RawName, TarMember>();
    const complain = (what: string) => archiveError(file.name, what);
    try {
      let count = 0;
      for await (const member of listTarMembers((offset, length) => file.read(offset, length), file)) {
        options.signal.throwIfAborted();
        count += 1;
        if (count > ARCHIVE_LIMITS.members) throw complain(`it has more than ${ARCHIVE_LIMITS.members} members`);
        const path = insidePath(member.path);
        if (path === null) throw complain(`its member ${rawNameText(member.path)} lies outside of it`);
        if (member.type === "directory") continue;
        if (members.has(path)) throw complain(`its member ${rawNameText(member.path)} is there twice`);
        members.set(path, member);
      }
    } catch (error) {
      throw asArchiveError(error, file.name);
    }
    return new ArchiveTar(file, members);
  }

  get name(): string {
    return this.#file.name;
  }

  has(path: string): boolean {
    return this.#members.has(rawName(path));
  }

  /** A file by its name, or by the links that lead to it; null where there is none. Throws IMAGE_INVALID. */
  find(path: string): Located | null {
    let at: RawName | null = insidePath(rawName(path));
    for (let hops = 0; hops <= ARCHIVE_LIMITS.linksInARow; hops += 1) {
      const member = at === null ? undefined : this.#members.get(at);
      if (member === undefined) return null;
      if (member.type === "file") return { offset: member.dataOffset, sizeBytes: member.sizeBytes };
      if (member.type !== "symlink" && member.type !== "hardlink") {
        throw archiveError(this.name, `its member ${JSON.stringify(path)} is of type ${member.type}, not a file`);
      }
      at = linkTarget(at ?? "", member);
      if (at === null) throw archiveError(this.name, `its member ${JSON.stringify(path)} is a link that leads outside of it`);
    }
    throw archiveError(this.name, `its member ${JSON.stringify(path)} is a link that leads nowhere but round`);
  }

  /** A small file as a whole. Throws IMAGE_INVALID. */
  async readSmall(path: string, limitBytes: number): Promise<Buffer | null> {
    const found = this.find(path);
    if (found === null) return null;
    if (found.sizeBytes > limitBytes) {
      throw archiveError(this.name, `its ${path} has ${found.sizeBytes} bytes; ${limitBytes} are allowed`);
    }
    return this.#file.read(found.offset, found.sizeBytes);
  }

  /** The first bytes of a file. */
  readHead(found: Located, length: number): Promise<Buffer> {
    return this.#file.read(found.offset, Math.min(length, found.sizeBytes));
  }

  toBlob(found: Located): LayoutBlob {
    return { sizeBytes: found.sizeBytes, open: () => this.#stream(found) };
  }

  /** Reads a file to its end for its sha256. */
  async digestOf(found: Located, options: { readonly signal: AbortSignal }): Promise<string> {
    const hash = createHash("sha256");
    for await (const chunk of this.#stream(found)) {
      options.signal.throwIfAborted();
      hash.update(chunk);
    }
    return `sha256:${hash.digest("hex")}`;
  }

  async *#stream({ offset, sizeBytes }: Located): AsyncGenerator<Uint8Array> {
    for (let done = 0; done < sizeBytes;) {
      const chunk = await this.#file.read(offset + done, Math.min(ARCHIVE_LIMITS.readBytes, sizeBytes - done));
      if (chunk.length === 0) throw archiveError(this.name, "it became shorter while it was read");
      yield chunk;
      done += chunk.length;
    }
  }
}

const rawName = (path: string): RawName => Buffer.from(path).toString("latin1");

/** The path without its dots; null for one that leads outside. */
const insidePath = (path: RawName): RawName | null => {
  if (path.startsWith("/")) return null;
  const normal = posix.normalize(path).replace(/\/$/, "");
  return normal === ".." || normal.startsWith("../") ? null : normal;
};

/** A symlink is relative to where it lies, a hard link to the archive's top. */
const linkTarget = (at: RawName, { type, linkPath }: TarMember): RawName | null =>
  linkPath.startsWith("/") ? null : insidePath(type === "symlink" ? posix.join(posix.dirname(at), linkPath) : linkPath);
