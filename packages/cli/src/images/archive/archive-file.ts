import { open, type FileHandle } from "node:fs/promises";
import { KilnError } from "@kiln/protocol/errors";
import { hasErrno } from "../../errno.ts";
import { archiveError } from "./archive-error.ts";

/** Bytes that can be read anywhere, until it is disposed of. */
export class ArchiveFile implements AsyncDisposable {
  /** For messages: what the caller named. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, from: { readonly name: string; readonly sizeBytes: number }) {
    this.#handle = handle;
    this.name = from.name;
    this.sizeBytes = from.sizeBytes;
  }

  /** `length` bytes from `offset` on; fewer only where the file ends. */
  async read(offset: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(length, this.sizeBytes - offset)));
    let filled = 0;
    while (filled < buffer.length) {
      const { bytesRead } = await this.#handle.read(buffer, filled, buffer.length - filled, offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close();
  }
}

const UNUSUAL = "a device, a pipe or a socket, not a file";

/** Opens a file of the caller. Throws IMAGE_SOURCE_MISSING, IMAGE_INVALID, PERMISSION_DENIED. */
export const openArchiveFile = async (path: string, name: string): Promise<ArchiveFile> => {
  const { stat } = await import("node:fs/promises");
  try {
    const found = await stat(path); // before it is opened: opening a pipe would wait for its writer
    if (found.isDirectory()) {
      throw archiveError(name, "it is a directory, not an archive", { hint: `an OCI layout in a directory is oci:${path}` });
    }
    if (!found.isFile()) throw archiveError(name, `it is ${UNUSUAL}`, { hint: `pipe it into \`kiln load\`: kiln load < ${path}` });
    await using stack = new AsyncDisposableStack();
    const handle = stack.use(await open(path, "r"));
    const { size } = await handle.stat();
    if (size === 0) throw archiveError(name, "it is empty");
    stack.move();
    return new ArchiveFile(handle, { name, sizeBytes: size });
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    const about = { cause, object: name };
    if (hasErrno(cause, "EACCES", "EPERM"))
      throw new KilnError("PERMISSION_DENIED", `${name}: no permission to read it`, { ...about, hint: "check who may read the file" });
    if (hasErrno(cause, "ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP"))
      throw new KilnError("IMAGE_SOURCE_MISSING", `${name}: there is no file ${path}`, { ...about, hint: "check the path" });
    throw cause;
  }
};
