import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { rawNameText, type TarEntry } from "@kiln/formats/tar";
import { type BundleManifest, bundleManifest, type Digest } from "@kiln/protocol";
import type { ContentShelf } from "../../images/ports.ts";
import { type BundlePart, bundleParts, invalid } from "./bundle-stream.ts";
import { BUNDLE_LIMITS, MANIFEST_ENTRY, ROOTFS_ENTRY, SUMS_ENTRY, sumsText } from "./entries.ts";

export interface ReadBundleOptions {
  readonly signal: AbortSignal;
  /** Called with the rootfs' digest before it is looked for. */
  readonly hold: (digest: Digest) => void;
}

/**
 * Takes the rootfs of a bundle into the content store while it comes. All of the bundle is as it has to be when this returns: the entries,
 * their order and their digests, and nothing else. Throws BUNDLE_INVALID, CONTENT_DIGEST_MISMATCH, DISK_FULL, and what the source throws.
 */
export const readBundle = async (
  source: AsyncIterable<Uint8Array>,
  content: Pick<ContentShelf, "ingest">,
  { signal, hold }: ReadBundleOptions,
): Promise<BundleManifest> => {
  const parts = bundleParts(source, signal);
  try {
    const text = await readSmall(parts, MANIFEST_ENTRY, BUNDLE_LIMITS.manifestBytes);
    const manifest = parseManifest(text);
    const { sizeBytes } = manifest.rootfs;
    const digest = manifest.rootfs.digest as Digest;
    const entry = await openEntry(parts, ROOTFS_ENTRY);
    if (entry.sizeBytes !== sizeBytes) throw invalid(`${ROOTFS_ENTRY} has ${entry.sizeBytes} bytes, ${MANIFEST_ENTRY} says ${sizeBytes}`);
    hold(digest);
    await content.ingest(contentOf(parts), { expected: { digest, size: sizeBytes }, isSparse: true, signal });
    const sums = await readSmall(parts, SUMS_ENTRY, BUNDLE_LIMITS.sumsBytes);
    const expected = sumsText({ manifest: createHash("sha256").update(text).digest("hex"), rootfs: digest.slice("sha256:".length) });
    if (sums.toString("latin1") !== expected) throw invalid(`${SUMS_ENTRY} has other sums than its files`);
    const more = await parts.next();
    if (more.done !== true) throw invalid(`${nameOf(more.value)} follows the last entry`);
    return manifest;
  } finally {
    await parts.return();
  }
};

const nameOf = (part: BundlePart): string => (part.type === "entry" ? rawNameText(part.entry.path) : "something");

const openEntry = async (parts: AsyncGenerator<BundlePart, void>, name: string): Promise<TarEntry> => {
  const { done, value } = await parts.next();
  if (done === true) throw invalid(`it ends before ${name}`);
  if (value.type !== "entry" || value.entry.path !== name) throw invalid(`${nameOf(value)} stands where ${name} belongs`);
  return value.entry;
};

const readSmall = async (parts: AsyncGenerator<BundlePart, void>, name: string, limitBytes: number): Promise<Buffer> => {
  const { sizeBytes } = await openEntry(parts, name);
  if (sizeBytes > limitBytes) throw invalid(`${name} has ${sizeBytes} bytes, more than ${limitBytes}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of contentOf(parts)) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const ZEROS = new Uint8Array(BUNDLE_LIMITS.readBytes);

/** Of the entry that was opened, to its end. */
async function* contentOf(parts: AsyncGenerator<BundlePart, void>): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { done, value } = await parts.next();
    if (done === true) throw invalid("it ends within an entry");
    if (value.type === "end") return;
    if (value.type === "data") yield value.bytes;
    else if (value.type === "hole") yield* zeros(value.lengthBytes);
    else throw invalid(`${nameOf(value)} begins within an entry`);
  }
}

/** A hole is no bytes of the bundle, and hashing it waits for nothing: all others get their turn between two pieces. */
async function* zeros(lengthBytes: number): AsyncGenerator<Uint8Array> {
  for (let left = lengthBytes; left > 0; left -= ZEROS.length) {
    yield left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS;
    await setImmediate();
  }
}

const parseManifest = (text: Buffer): BundleManifest => {
  const parsed = bundleManifest.safeParse(parseJson(text));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`${MANIFEST_ENTRY}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
  }
  if (parsed.data.rootfs.sizeBytes <= BUNDLE_LIMITS.rootfsBytes) return parsed.data;
  throw invalid(`its rootfs has ${parsed.data.rootfs.sizeBytes} bytes, more than ${BUNDLE_LIMITS.rootfsBytes}`);
};

const parseJson = (text: Buffer): unknown => {
  try {
    return JSON.parse(text.toString("utf8"));
  } catch (error) {
    throw invalid(`${MANIFEST_ENTRY} is not JSON`, error);
  }
};
