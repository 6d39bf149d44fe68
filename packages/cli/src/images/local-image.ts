import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { familiarName } from "@kiln/formats/oci/reference";
import { KilnError } from "@kiln/protocol/errors";
import type { LayoutBlob } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import type { ArchivedImage, ImageArchive } from "./archive/image-archive.ts";
import { resolveFrom, splitPath } from "./split-path.ts";
import type { LocalTransport } from "./transport.ts";

/** An image that this process can read, as an import sends it. */
export interface LocalImage {
  /** Where the import begins: an index or a manifest. */
  readonly root: Uint8Array;
  /** Which image of an index; null where it has one or `root` is that image. */
  readonly tag: string | null;
  readonly readBlob: (digest: string) => Promise<LayoutBlob>;
}

export interface Opening {
  readonly transport: LocalTransport;
  readonly reference: string;
  readonly onUnpacked: (bytes: number) => void;
}

/** Where what is packed is unpacked: archives are large, and /tmp is memory on many hosts. */
export const temporaryDirectory = async (context: CommandContext): Promise<string> => {
  const told = context.host.env["TMPDIR"];
  if (told !== undefined && told !== "") return told;
  return (await isThere("/var/tmp")) ? "/var/tmp" : tmpdir();
};

/** Opens the layout or the archive that a reference names, until the stack is disposed of. */
export const openLocalImage = async (context: CommandContext, opening: Opening, stack: AsyncDisposableStack): Promise<LocalImage> => {
  const { transport, reference } = opening;
  const { cwd } = context.host;
  if (transport === "oci") {
    const { openLayout, parseLayoutReference } = await import("./layout.ts");
    const source = await parseLayoutReference(reference, cwd);
    const layout = await openLayout(source, cwd);
    return { root: layout.index, tag: source.tag, readBlob: (digest) => layout.readBlob(digest) };
  }
  const text = reference.slice(transport.length + 1);
  if (text === "" || text.startsWith(":"))
    throw new KilnError("REFERENCE_INVALID", `${reference}: the file is missing`, { object: reference });
  const { path, tag } = await splitPath(text, (one) => isThere(resolveFrom(cwd, one)));
  const { openArchive } = await import("./archive/open-archive.ts");
  const archive = await openArchive(
    {
      source: { path: resolveFrom(cwd, path) },
      name: path,
      form: transport === "oci-archive" ? "oci" : "docker",
      temporaryDirectory: await temporaryDirectory(context),
      onUnpacked: opening.onUnpacked,
      signal: context.signal,
    },
    stack,
  );
  return select(archive, { transport, tag, reference });
};

const isThere = async (path: string): Promise<boolean> => {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error) return error.code === "EACCES"; // one that may not be read is there
    throw error;
  }
};

interface Wanted {
  readonly transport: LocalTransport;
  readonly tag: string | null;
  readonly reference: string;
}

/** A tag of an OCI archive is the daemon's to find, as in a layout; everything else is found here. */
const select = async (archive: ImageArchive, wanted: Wanted): Promise<LocalImage> => {
  const { transport, tag } = wanted;
  const readBlob = (digest: string) => archive.readBlob(digest);
  const { index } = archive;
  if (transport === "oci-archive" && index !== null && (tag === null ? index.tags.size <= 1 : index.tags.has(tag))) {
    return { root: index.bytes, tag, readBlob };
  }
  const image = tag === null ? onlyOf(archive.images) : await imageOf(archive.images, tag);
  if (image === null) throw notFound(archive.images, wanted);
  return { root: await image.readRoot(), tag: null, readBlob };
};

const onlyOf = (images: readonly ArchivedImage[]): ArchivedImage | null => (images.length === 1 ? (images[0] ?? null) : null);

/** By its place (`@0`, as skopeo has it), by its name in any form, or by a tag that only one has. */
const imageOf = async (images: readonly ArchivedImage[], tag: string): Promise<ArchivedImage | null> => {
  if (/^@\d+$/.test(tag)) return images[Number(tag.slice(1))] ?? null;
  const { nameOf } = await import("./archive/names.ts");
  const name = nameOf(tag);
  const named = images.find((image) => name !== null && image.names.includes(name));
  return named ?? onlyOf(images.filter((image) => image.names.some((one) => one.endsWith(`:${tag}`))));
};

const LISTED = 20;

const notFound = (images: readonly ArchivedImage[], { transport, tag, reference }: Wanted): KilnError => {
  const there = images.slice(0, LISTED).map((image) => familiarName(image.label));
  const what = tag === null ? `there are ${images.length} images, and nothing says which` : `there is no image ${tag}`;
  return new KilnError("IMAGE_NOT_FOUND", `${reference}: ${what}; there is ${there.length === 0 ? "nothing" : there.join(", ")}`, {
    object: reference,
    hint: `name one of them: ${transport}:FILE:NAME`,
  });
};
