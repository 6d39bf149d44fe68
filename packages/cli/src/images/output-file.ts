import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "../context.ts";
import { hasErrno } from "../errno.ts";
import { writeTo } from "../streams.ts";

interface Writing {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Hears how many more bytes are written. */
  readonly count: (bytes: number) => void;
}

/** To a file, which is there whole or not at all, or to stdout where there is none. */
export const writeOutput = async (context: CommandContext, writing: Writing & { readonly target: string | null }): Promise<void> => {
  const { target, chunks, count } = writing;
  if (target !== null) return writeFile(target, writing, context.signal);
  for await (const chunk of chunks) {
    await writeTo(context.host.stdout, chunk);
    count(chunk.length);
  }
};

const writeFile = async (target: string, writing: Writing, signal: AbortSignal): Promise<void> => {
  const { publishFile } = await import("@kiln/std/node");
  try {
    await publishFile({
      target,
      stagingDir: dirname(target),
      ifExists: "replace",
      signal,
      write: async (file) => {
        for await (const chunk of writing.chunks) {
          await file.writeFile(chunk); // from where the last one ended
          writing.count(chunk.length);
        }
      },
    });
  } catch (cause) {
    throw targetError(target, cause);
  }
};

/** Where the file goes: what a symlink leads to is replaced, not the link. `command` writes to stdout. Throws for what cannot be a file. */
export const findTarget = async (output: string, path: string, command: string): Promise<string> => {
  const about = { object: output };
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new KilnError("USAGE", `-o ${output}: it is a directory`, { ...about, hint: "name a file in it" });
    if (!found.isFile())
      throw new KilnError("USAGE", `-o ${output}: it is no file, and would be replaced by one`, {
        ...about,
        hint: `write to stdout: ${command} > ${output}`,
      });
    return await realpath(path);
  } catch (error) {
    if (error instanceof KilnError || !hasErrno(error, "ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG")) throw error;
  }
  try {
    return join(await realpath(dirname(path)), basename(path));
  } catch (cause) {
    throw new KilnError("USAGE", `-o ${output}: there is no directory ${dirname(output)}`, { ...about, cause, hint: "check the path" });
  }
};

const targetError = (target: string, cause: unknown): unknown => {
  const about = { cause, object: target };
  if (hasErrno(cause, "EACCES", "EPERM", "EROFS"))
    return new KilnError("PERMISSION_DENIED", `${target}: no permission to write it`, { ...about, hint: "choose another file with -o" });
  if (hasErrno(cause, "ENOSPC", "EDQUOT", "EFBIG"))
    return new KilnError("DISK_FULL", `${target}: there is no room for it`, {
      ...about,
      hint: "make room, or choose another place with -o",
    });
  if (hasErrno(cause, "ENOTDIR", "ENOENT", "EISDIR", "ENAMETOOLONG", "ELOOP"))
    return new KilnError("USAGE", `${target}: it cannot be written`, { ...about, hint: "check the path" });
  return cause;
};
