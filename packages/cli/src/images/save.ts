import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KilnError } from "@kiln/protocol/errors";
import type { CommandContext } from "../context.ts";
import { hasErrno } from "../errno.ts";
import { ProgressBlock } from "../render/progress.ts";
import { writeTo } from "../streams.ts";
import { planArchive, type PlannedArchive } from "./saved-archive.ts";
import { resolveFrom } from "./split-path.ts";

export interface Saving {
  readonly images: readonly string[];
  /** null is stdout. */
  readonly output: string | null;
  readonly quiet: boolean;
}

/** docker's `save`, as an archive that is an OCI layout too. */
export const saveImages = async (context: CommandContext, saving: Saving): Promise<void> => {
  const { output } = saving;
  if (output === null && context.host.stdout.isTTY)
    throw new KilnError("USAGE", "the archive is written to stdout, which is a terminal", {
      hint: "name a file with -o FILE, or redirect stdout",
    });
  const target = output === null ? null : await findTarget(output, resolveFrom(context.host.cwd, output));
  const kiln = await context.connect();
  await using progress = new ProgressBlock(context.host, { json: context.json, quiet: saving.quiet });
  const archive = await planArchive(kiln, saving.images, { signal: context.signal });
  const state = { phase: `saving ${saving.images.join(", ")}`, position: null, total: archive.sizeBytes, unit: "bytes" };
  let done = 0;
  const count = (bytes: number): void => {
    done += bytes;
    progress.show("", { ...state, done });
  };
  if (target === null) {
    for await (const chunk of archive.write()) {
      await writeTo(context.host.stdout, chunk);
      count(chunk.length);
    }
    return;
  }
  await writeFile(target, archive, { count, signal: context.signal });
  if (context.json) await context.printJson({ output: target, sizeBytes: done, images: archive.names });
};

const writeFile = async (
  target: string,
  archive: PlannedArchive,
  options: { readonly count: (bytes: number) => void; readonly signal: AbortSignal },
): Promise<void> => {
  const { publishFile } = await import("@kiln/std/node");
  try {
    await publishFile({
      target,
      stagingDir: dirname(target),
      ifExists: "replace",
      signal: options.signal,
      write: async (file) => {
        for await (const chunk of archive.write()) {
          await file.writeFile(chunk); // from where the last one ended
          options.count(chunk.length);
        }
      },
    });
  } catch (cause) {
    throw targetError(target, cause);
  }
};

/** Where the file goes: what a symlink leads to is replaced, not the link. Throws for what cannot be a file. */
const findTarget = async (output: string, path: string): Promise<string> => {
  const about = { object: output };
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new KilnError("USAGE", `-o ${output}: it is a directory`, { ...about, hint: "name a file in it" });
    if (!found.isFile())
      throw new KilnError("USAGE", `-o ${output}: it is no file, and would be replaced by one`, {
        ...about,
        hint: `write to stdout: kiln save … > ${output}`,
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
