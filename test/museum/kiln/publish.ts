import { dirname } from "node:path/posix";
import type { FileFingerprint } from "@kiln/std";
import { hasCode, type PublishedFile, publishFileOn, type PublishFileOptions, type PublishingFiles } from "@kiln/std/node";
import { stagingPath } from "../../../packages/std/src/node/staging.ts";
import type { SimDisk, SimFileInfo, SimFiles } from "../../sim/disk.ts";
import type { Actor } from "../stage.ts";

export const STAGING = "/home/staging";

/** What a scenario finds: whole, and safe. */
export const plant = (disk: SimDisk, path: string, text: string): void => {
  disk.create(path);
  disk.append(path, toBytes(text));
  disk.sync(path);
  disk.syncNames(dirname(path));
};

/** A file of the simulated disk that is open: it is the same file, whatever its name. */
interface OpenFile extends AsyncDisposable {
  readonly path: string;
  readonly ino: number;
}

export const toBytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const toText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

export const fingerprintOfInfo = ({ size, ino, changes }: SimFileInfo): FileFingerprint => ({
  ...{ size, ino: String(ino) },
  ...{ mtimeNs: String(changes), ctimeNs: String(changes) },
});

/** The simulated disk as Kiln's publishing wants it. */
const publishingFiles = (files: SimFiles): PublishingFiles<OpenFile> => {
  const renamed = new Map<string, string>();
  const fingerprintAt = async (path: string): Promise<FileFingerprint | null> => {
    const info = await files.info(path);
    return info === null ? null : fingerprintOfInfo(info);
  };
  return {
    stagingPath,
    discard: async (path) => {
      try {
        await files.remove(path);
      } catch (error) {
        if (!hasCode(error, "ENOENT")) throw error;
      }
    },
    create: async (path) => {
      await files.create(path);
      const ino = (await files.info(path))?.ino ?? 0;
      return { path, ino, [Symbol.asyncDispose]: async () => undefined };
    },
    isAt: async ({ ino }, path) => (await files.info(path))?.ino === ino,
    chmod: async () => undefined,
    sync: ({ path }) => files.sync(path),
    fingerprintOf: async ({ path, ino }) => {
      const found = await fingerprintAt(renamed.get(path) ?? path);
      return found?.ino === String(ino) ? found : { size: 0, ino: String(ino), mtimeNs: "", ctimeNs: "" };
    },
    fingerprintAt,
    link: async (path, target) => {
      await files.link(path, target);
      renamed.set(path, target);
    },
    rename: async (path, target) => {
      await files.rename(path, target);
      renamed.set(path, target);
    },
    syncDirectory: (path) => files.syncDirectory(path),
  };
};

type Publish = Omit<PublishFileOptions<OpenFile>, "stagingDir" | "write"> & {
  /** Fills the staged file. */
  readonly write: (path: string, files: SimFiles) => Promise<void>;
};

/** Kiln's publishing, by one process of a scenario, on its simulated disk. */
export const publishBy = (actor: Actor, { disk }: { readonly disk: SimDisk }, { write, ...options }: Publish): Promise<PublishedFile> => {
  const files = actor.files(disk);
  const whole = { ...options, stagingDir: STAGING, write: (_file: OpenFile, path: string) => write(path, files) };
  return publishFileOn(publishingFiles(files), whole);
};
