import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { hasErrno } from "../errno.ts";
import { KilnError } from "@kiln/protocol/errors";
import { digestHex, isDigest } from "@kiln/protocol/ids";
import { LIMITS } from "@kiln/protocol/limits";
import type { LayoutBlob } from "@kiln/sdk";
import { resolveFrom, splitPath } from "./split-path.ts";

/** Where an `oci:` reference points. */
export interface LayoutReference {
  /** The directory as the caller wrote it. */
  readonly path: string;
  readonly tag: string | null;
  /** The name the image gets: what the caller wrote. */
  readonly reference: string;
}

const isDirectory = async (path: string): Promise<boolean> => {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (hasErrno(error, "ENOENT", "ENOTDIR", "ENAMETOOLONG")) return false;
    throw error;
  }
};

/**
 * Splits `oci:DIR[:TAG]`; where no split gives a directory that exists, the first colon counts.
 * Throws REFERENCE_INVALID without a directory.
 */
export const parseLayoutReference = async (reference: string, cwd: string): Promise<LayoutReference> => {
  const text = reference.slice("oci:".length);
  if (text === "" || text.startsWith(":"))
    throw new KilnError("REFERENCE_INVALID", `${JSON.stringify(reference)} names no directory`, { object: reference });
  return { ...(await splitPath(text, (path) => isDirectory(resolveFrom(cwd, path)))), reference };
};

export interface Layout {
  /** index.json as it is. */
  readonly index: Uint8Array;
  readBlob(digest: string): Promise<LayoutBlob>;
}

/**
 * Opens an OCI image layout (image-spec, image-layout.md). Only `oci-layout`, `index.json` and `blobs/sha256/HEX` below
 * the directory are read. Throws IMAGE_SOURCE_MISSING, IMAGE_INVALID, PERMISSION_DENIED.
 */
export const openLayout = async ({ path, reference }: LayoutReference, cwd: string): Promise<Layout> => {
  const directory = resolveFrom(cwd, path);
  const about = { object: reference };
  let found: Awaited<ReturnType<typeof stat>>;
  try {
    found = await stat(directory);
  } catch (cause) {
    throw sourceError(cause, { reference, what: `there is no directory ${path}` });
  }
  if (!found.isDirectory()) throw new KilnError("IMAGE_INVALID", `${path} is not a directory`, about);
  const marker = await readSmall(join(directory, "oci-layout"), {
    reference,
    what: `${path} is not an OCI image layout: it has no oci-layout file`,
  });
  if (!isMarker(marker))
    throw new KilnError("IMAGE_INVALID", `${path} is not an OCI image layout of version 1: its oci-layout file says otherwise`, about);
  const index = await readSmall(join(directory, "index.json"), {
    reference,
    what: `${path} is not an OCI image layout: it has no index.json`,
  });
  return { index, readBlob: (digest) => openBlob(directory, digest, reference) };
};

const isMarker = (bytes: Uint8Array): boolean => {
  try {
    const marker = JSON.parse(new TextDecoder().decode(bytes)) as { readonly imageLayoutVersion?: unknown } | null;
    return typeof marker?.imageLayoutVersion === "string" && marker.imageLayoutVersion.startsWith("1.");
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
};

interface Reading {
  readonly reference: string;
  /** What is wrong if the file is missing. */
  readonly what: string;
}

const sourceError = (cause: unknown, { reference, what }: Reading): KilnError => {
  if (hasErrno(cause, "EACCES", "EPERM"))
    return new KilnError("PERMISSION_DENIED", `${reference}: no permission to read it`, {
      cause,
      object: reference,
      hint: "check who may read the directory",
    });
  return new KilnError("IMAGE_SOURCE_MISSING", `${reference}: ${what}`, { cause, object: reference });
};

const readSmall = async (file: string, reading: Reading): Promise<Uint8Array> => {
  const { reference } = reading;
  try {
    const { size } = await stat(file);
    if (size > LIMITS.manifestBytes)
      throw new KilnError("IMAGE_INVALID", `${file} has ${size} bytes; ${LIMITS.manifestBytes} are allowed`, { object: reference });
    return await readFile(file);
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    if (hasErrno(cause, "ENOENT", "ENOTDIR", "EISDIR"))
      throw new KilnError("IMAGE_INVALID", `${reference}: ${reading.what}`, { object: reference });
    throw sourceError(cause, reading);
  }
};

const openBlob = async (directory: string, digest: string, reference: string): Promise<LayoutBlob> => {
  if (!isDigest(digest))
    throw new KilnError("IMAGE_INVALID", `${reference}: ${digest.slice(0, 80)} is not a sha256 digest`, { object: reference });
  const file = join(directory, "blobs", "sha256", digestHex(digest));
  try {
    const found = await stat(file);
    if (!found.isFile()) throw new KilnError("IMAGE_INVALID", `${reference}: its blob ${digest} is not a file`, { object: reference });
    return { sizeBytes: found.size, open: () => readBlob(file) };
  } catch (cause) {
    if (hasErrno(cause, "ENOENT"))
      throw new KilnError("IMAGE_INVALID", `${reference}: the layout lacks its blob ${digest}`, { object: reference });
    if (cause instanceof KilnError) throw cause;
    throw sourceError(cause, { reference, what: `its blob ${digest} cannot be read` });
  }
};

const READ_BYTES = 2 ** 20;

async function* readBlob(file: string): AsyncGenerator<Uint8Array> {
  await using handle = await open(file, "r");
  for (;;) {
    const { bytesRead, buffer } = await handle.read(new Uint8Array(READ_BYTES), 0, READ_BYTES, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
