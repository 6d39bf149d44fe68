import { createHash } from "node:crypto";
import { familiarName } from "@kiln/formats/oci/reference";
import { MEDIA_TYPES, OCI_LIMITS, parseImageDocument, type Descriptor, type ImageManifest } from "@kiln/formats/oci";
import { writeTar, type WrittenMember } from "@kiln/formats/tar";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import { nameOf } from "./archive/names.ts";

/** An archive whose members are known and whose layers are not read yet. */
export interface PlannedArchive {
  /** The names that are written into it. */
  readonly names: readonly string[];
  /** Content, without the tar's own bytes. */
  readonly sizeBytes: number;
  /** The tar, piece by piece; each blob's digest is checked while it goes by. */
  write(): AsyncGenerator<Uint8Array>;
}

interface SavedImage {
  readonly manifest: ImageManifest;
  readonly bytes: Uint8Array;
  readonly digest: string;
  /** Written-out names, in the order they were asked for. */
  readonly names: string[];
}

interface Options {
  readonly signal: AbortSignal;
}

const path = (digest: string): string => `blobs/sha256/${digest.slice("sha256:".length)}`;

/**
 * Plans one tar that is an OCI layout (image-spec, image-layout.md) and an archive of docker's (manifest.json): the blobs are
 * the same files. The same images under the same names make the same bytes. Throws IMAGE_NOT_FOUND.
 */
export const planArchive = async (kiln: Kiln, references: readonly string[], options: Options): Promise<PlannedArchive> => {
  const images = new Map<string, SavedImage>();
  for (const reference of references) {
    const details = await kiln.images.inspect(reference, options);
    const known = images.get(details.digest) ?? (await readImage(kiln, { reference, digest: details.digest }, options));
    images.set(details.digest, known);
    // as docker: what is asked for by its digest goes without a name
    const name = nameOf(details.reference);
    if (name !== null && nameOf(reference) === name && !known.names.includes(name)) known.names.push(name);
  }
  const members = [...documents([...images.values()]), ...blobs(kiln, [...images.values()], options)];
  return {
    names: [...images.values()].flatMap((image) => image.names),
    sizeBytes: members.reduce((sum, member) => sum + member.sizeBytes, 0),
    write: () => writeTar(members),
  };
};

const readImage = async (
  kiln: Kiln,
  { reference, digest }: { readonly reference: string; readonly digest: string },
  options: Options,
): Promise<SavedImage> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of checked(await kiln.images.readBlob(digest, options), { digest, size: null })) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const manifest = parseImageDocument(bytes, null, digest);
  if (manifest.kind !== "manifest") throw new KilnError("IMAGE_INVALID", `${reference}: ${digest} is no manifest`, { object: reference });
  return { manifest, bytes, digest, names: [] };
};

const whole = (name: string, bytes: Uint8Array): WrittenMember => ({
  path: name,
  type: "file",
  sizeBytes: bytes.length,
  open: async function* one() {
    yield bytes;
  },
});

const json = (name: string, value: unknown): WrittenMember => whole(name, Buffer.from(JSON.stringify(value)));

const directory = (name: string): WrittenMember => ({ ...whole(name, new Uint8Array()), type: "directory" });

const documents = (images: readonly SavedImage[]): WrittenMember[] => [
  json("oci-layout", { imageLayoutVersion: "1.0.0" }),
  json("index.json", { schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests: images.flatMap(descriptorsOf) }),
  json(
    "manifest.json",
    images.map(({ manifest, names }) => ({
      Config: path(manifest.config.digest),
      RepoTags: names.map(familiarName),
      Layers: manifest.layers.map((layer) => path(layer.digest)),
    })),
  ),
  directory("blobs"),
  directory("blobs/sha256"),
];

/** One for each name: containerd and docker read the first annotation, podman and skopeo the second. */
const descriptorsOf = ({ digest, bytes, names }: SavedImage): object[] => {
  const descriptor = { mediaType: mediaTypeOf(bytes), digest, size: bytes.length };
  if (names.length === 0) return [descriptor];
  return names.map((name) => ({
    ...descriptor,
    annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
  }));
};

const mediaTypeOf = (manifest: Uint8Array): string => {
  const { mediaType } = JSON.parse(Buffer.from(manifest).toString("utf8")) as { readonly mediaType?: unknown };
  return typeof mediaType === "string" ? mediaType : MEDIA_TYPES.manifest;
};

/** Each blob once, in the order of the digests. */
const blobs = (kiln: Kiln, images: readonly SavedImage[], options: Options): WrittenMember[] => {
  const members = new Map<string, WrittenMember>(images.map(({ digest, bytes }) => [digest, whole(path(digest), bytes)]));
  const fetched = (descriptor: Descriptor): WrittenMember => ({
    path: path(descriptor.digest),
    type: "file",
    sizeBytes: descriptor.size,
    open: async function* fetch() {
      yield* checked(await kiln.images.readBlob(descriptor.digest, options), descriptor);
    },
  });
  for (const { manifest } of images) {
    for (const descriptor of [manifest.config, ...manifest.layers]) {
      if (!members.has(descriptor.digest)) members.set(descriptor.digest, fetched(descriptor));
    }
  }
  return [...members].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, member]) => member);
};

/** Passes the bytes on; in the end they were what the digest says. Throws CONTENT_DIGEST_MISMATCH, CONTENT_SIZE_MISMATCH. */
async function* checked(
  stream: AsyncIterable<Uint8Array>,
  expected: { readonly digest: string; readonly size: number | null },
): AsyncGenerator<Uint8Array> {
  const { digest, size } = expected;
  const limitBytes = size ?? OCI_LIMITS.documentBytes;
  const hash = createHash("sha256");
  let done = 0;
  for await (const chunk of stream) {
    done += chunk.length;
    if (done > limitBytes) throw new KilnError("CONTENT_SIZE_MISMATCH", `${digest} has more than ${limitBytes} bytes`, { object: digest });
    hash.update(chunk);
    yield chunk;
  }
  if (size !== null && done !== size)
    throw new KilnError("CONTENT_SIZE_MISMATCH", `${digest} has ${done} bytes, its descriptor says ${size}`, { object: digest });
  if (`sha256:${hash.digest("hex")}` !== digest)
    throw new KilnError("CONTENT_DIGEST_MISMATCH", `the daemon's bytes of ${digest} have another digest`, { object: digest });
}
