import { archiveError } from "./archive-error.ts";
import { openArchiveFile, type ArchiveFile } from "./archive-file.ts";
import { ArchiveTar } from "./archive-tar.ts";
import { SNIFF_BYTES, sniffCompression } from "./compression.ts";
import { hasDockerContents, openDockerContents } from "./docker-contents.ts";
import type { ImageArchive } from "./image-archive.ts";
import { ARCHIVE_LIMITS } from "./limits.ts";
import { hasOciContents, isOciComplete, openOciContents } from "./oci-contents.ts";

export interface OpenArchive {
  /** A file of the caller, or a stream that is read to its end. */
  readonly source: { readonly path: string } | { readonly stream: AsyncIterable<Uint8Array> };
  /** For messages: what the caller named. */
  readonly name: string;
  /** What the caller says it is; null takes either. */
  readonly form: "oci" | "docker" | null;
  /** Where what is packed or streamed is unpacked. */
  readonly temporaryDirectory: string;
  readonly onUnpacked?: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal;
}

/**
 * Opens an archive of `docker save`, `podman save` or skopeo until the stack is disposed of. A plain tar in a file is
 * read where it lies. Throws IMAGE_SOURCE_MISSING, IMAGE_INVALID, PERMISSION_DENIED, DISK_FULL, HOST_TOOL_MISSING.
 */
export const openArchive = async (options: OpenArchive, stack: AsyncDisposableStack): Promise<ImageArchive> => {
  const file = stack.use(await openPlain(options));
  const tar = await ArchiveTar.open(file, options);
  const [isOci, isDocker] = [hasOciContents(tar), hasDockerContents(tar)];
  requireForm(options, { isOci, isDocker, isAncient: tar.has("repositories") });
  if (options.form === "oci" || !isDocker) return openOciContents(tar);
  const oci = isOci ? await openOciContents(tar) : null;
  return oci !== null && (await isOciComplete(tar, oci)) ? oci : openDockerContents(tar, options);
};

interface Found {
  readonly isOci: boolean;
  readonly isDocker: boolean;
  readonly isAncient: boolean;
}

const requireForm = ({ name, form }: OpenArchive, { isOci, isDocker, isAncient }: Found): void => {
  if (!isOci && !isDocker) {
    if (isAncient) throw archiveError(name, "it was saved by a docker older than 1.10, and has no manifest.json");
    throw archiveError(name, "it is a tar, but holds neither an OCI layout (oci-layout, index.json) nor docker's manifest.json");
  }
  if (form === "oci" && !isOci)
    throw archiveError(name, "it holds no OCI layout", { hint: "it is one of docker's: name it docker-archive:FILE" });
  if (form === "docker" && !isDocker)
    throw archiveError(name, "it holds no manifest.json of docker", { hint: "it is an OCI archive: name it oci-archive:FILE" });
};

const openPlain = async (options: OpenArchive): Promise<ArchiveFile> => {
  const { source, name } = options;
  if ("stream" in source) return unpack(source.stream, options);
  await using stack = new AsyncDisposableStack();
  const file = stack.use(await openArchiveFile(source.path, name));
  if (sniffCompression(await file.read(0, SNIFF_BYTES)) !== "none") return await unpack(contentOf(file), options);
  stack.move();
  return file;
};

async function* contentOf(file: ArchiveFile): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < file.sizeBytes;) {
    const chunk = await file.read(offset, ARCHIVE_LIMITS.readBytes);
    if (chunk.length === 0) return;
    yield chunk;
    offset += chunk.length;
  }
}

const unpack = async (stream: AsyncIterable<Uint8Array>, options: OpenArchive): Promise<ArchiveFile> => {
  const { name, signal, temporaryDirectory: directory, onUnpacked: onProgress } = options;
  const { spool } = await import("./spool.ts"); // loaded here: most archives need no unpacking
  const { head, whole } = await peek(stream);
  return spool(whole, { name, signal, directory, onProgress, compression: sniffCompression(head) });
};

/** The first bytes of a stream, and the stream with them. */
const peek = async (
  stream: AsyncIterable<Uint8Array>,
): Promise<{ readonly head: Uint8Array; readonly whole: AsyncIterable<Uint8Array> }> => {
  const chunks = stream[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  let isDone = false;
  while (head.length < SNIFF_BYTES && !isDone) {
    const next = await chunks.next();
    if (next.done === true) isDone = true;
    else head = Buffer.concat([head, next.value]);
  }
  return { head, whole: rejoin(head, chunks) };
};

async function* rejoin(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}
