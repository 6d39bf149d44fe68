import { type FileHandle, open, stat } from "node:fs/promises";
import { KilnError } from "@kiln/protocol/errors";
import type { SentFile } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import { hasErrno } from "../errno.ts";
import type { ProgressBlock } from "../render/progress.ts";
import { resolveFrom } from "./split-path.ts";

/** Read at once. */
const CHUNK_BYTES = 2 ** 20;

/** A file of the caller, to be sent; open until it is disposed of. Throws IMAGE_SOURCE_MISSING, PERMISSION_DENIED. */
export const openSentFile = async (
  context: CommandContext,
  name: string,
  { progress, stack }: { readonly progress: ProgressBlock; readonly stack: AsyncDisposableStack },
): Promise<SentFile> => {
  const file = stack.use(await openFile(resolveFrom(context.host.cwd, name), name));
  const sizeBytes = (await file.stat()).size;
  const phase = `sending ${name}`;
  stack.defer(() => progress.clear(name));
  return {
    sizeBytes,
    open: () => read(file, sizeBytes),
    signal: context.signal,
    onProgress: ({ doneBytes, totalBytes }) =>
      progress.show(name, { phase, position: null, done: doneBytes, total: totalBytes, unit: "bytes" }),
  };
};

const openFile = async (path: string, name: string): Promise<FileHandle> => {
  const about = { object: name };
  try {
    const found = await stat(path); // before it is opened: opening a pipe would wait for its writer
    if (!found.isFile())
      throw new KilnError("IMAGE_SOURCE_MISSING", `${name}: it is ${found.isDirectory() ? "a directory" : "no regular file"}`, {
        ...about,
        hint: found.isDirectory() ? `make a file system of it: \`mke2fs -t ext4 -d ${name} FILE SIZE\`` : "copy it to a file first",
      });
    return await open(path, "r");
  } catch (cause) {
    if (hasErrno(cause, "EACCES", "EPERM"))
      throw new KilnError("PERMISSION_DENIED", `${name}: no permission to read it`, {
        ...about,
        cause,
        hint: "check who may read the file",
      });
    if (hasErrno(cause, "ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP"))
      throw new KilnError("IMAGE_SOURCE_MISSING", `${name}: there is no such file`, { ...about, cause, hint: "check the path" });
    throw cause;
  }
};

async function* read(file: FileHandle, sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < sizeBytes;) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0)
      throw new KilnError("CONTENT_SIZE_MISMATCH", `the file became shorter while it was read: ${at} of ${sizeBytes} bytes`);
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
