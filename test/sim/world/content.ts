import { createHash } from "node:crypto";
import { type Digest, digestHex, isDigest, KilnError } from "@kiln/protocol";
import { publishFileOn } from "@kiln/std/node";
import type { ContentInfo, ContentLease, ContentShelf, ExpectedContent, OpenContent } from "../../../packages/daemon/src/images/ports.ts";
import type { BlobShelf } from "../../../packages/daemon/src/operations/collect-content.ts";
import { SimDiskError } from "../disk.ts";
import type { HomeFiles, OpenFile } from "./home-files.ts";
import { HOME } from "./paths.ts";

export const sha256Of = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as Digest;

const DIRECTORY = `${HOME.content}/sha256`;
const BLOB_MODE = 0o444;
const BLOCK_BYTES = 4096;
export const blocksOf = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;

export const blobPath = (digest: Digest): string => `${DIRECTORY}/${digestHex(digest)}`;

/** Blobs on the simulated disk, published as Kiln publishes files. */
export class SimContent implements ContentShelf, BlobShelf {
  readonly home: HomeFiles;

  constructor(home: HomeFiles) {
    this.home = home;
  }

  path(digest: Digest): string {
    return blobPath(digest);
  }

  async stat(digest: Digest): Promise<ContentInfo | null> {
    const info = await this.home.files.info(blobPath(digest));
    return info === null ? null : { digest, size: info.size };
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.stat(digest)) !== null;
  }

  async requireRoom(bytes: number, what: string): Promise<void> {
    if (bytes <= this.home.disk.room) return;
    throw new KilnError("DISK_FULL", `there is no room for ${what}`, { object: what });
  }

  async ingest(
    source: AsyncIterable<Uint8Array>,
    { expected, signal }: { expected: ExpectedContent; signal: AbortSignal },
  ): Promise<ContentInfo> {
    const present = await this.home.readIfThere(blobPath(expected.digest));
    const isWhole = present !== null && sha256Of(present) === expected.digest;
    const bytes = await collect(source, signal);
    requireExpected(bytes, expected);
    if (!isWhole) await this.#publish(expected.digest, bytes, { ifExists: present === null ? "keep" : "replace", signal });
    return { digest: expected.digest, size: bytes.length };
  }

  async ingestUnnamed(
    source: AsyncIterable<Uint8Array>,
    { lease, signal }: { lease: ContentLease; signal: AbortSignal },
  ): Promise<ContentInfo> {
    const bytes = await collect(source, signal);
    const digest = sha256Of(bytes);
    lease.hold(digest);
    await this.#publish(digest, bytes, { ifExists: "replace", signal });
    return { digest, size: bytes.length };
  }

  async #publish(digest: Digest, bytes: Uint8Array, how: { ifExists: "keep" | "replace"; signal: AbortSignal }): Promise<void> {
    await orDiskFull(digest, () =>
      publishFileOn<OpenFile>(this.home, {
        ...{ target: blobPath(digest), stagingDir: HOME.staging, mode: BLOB_MODE, ...how },
        write: (_file, path) => this.home.write(path, bytes),
      }),
    );
  }

  async open(digest: Digest): Promise<OpenContent> {
    const bytes = await this.home.readIfThere(blobPath(digest));
    if (bytes === null) throw new KilnError("IMAGE_CONTENT_MISSING", `${digest} is not in the content store`, { object: digest });
    return {
      size: bytes.length,
      stream: async function* ({ signal }) {
        signal.throwIfAborted();
        yield bytes;
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async read(digest: Digest, { limitBytes, signal }: { limitBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    await using content = await this.open(digest);
    if (content.size > limitBytes) throw new KilnError("IMAGE_INVALID", `${digest} has ${content.size} bytes`, { object: digest });
    return await collect(content.stream({ signal }), signal);
  }

  async remove(digest: Digest): Promise<boolean> {
    const isThere = await this.has(digest);
    await this.home.files.removeTree(blobPath(digest));
    return isThere;
  }

  removeNow(digest: Digest): number {
    return removeNow(this.home, blobPath(digest));
  }

  async *list(): AsyncGenerator<ContentInfo> {
    for (const name of await this.home.entries(DIRECTORY)) {
      const digest = `sha256:${name}`;
      const info = isDigest(digest) ? this.home.disk.info(`${DIRECTORY}/${name}`) : null;
      if (isDigest(digest) && info !== null) yield { digest, size: info.size };
    }
  }
}

/** Returns the bytes on the disk that it had. */
export const removeNow = ({ disk }: Pick<HomeFiles, "disk">, path: string): number => {
  const info = disk.info(path);
  disk.removeTree(path);
  return info === null ? 0 : blocksOf(info.size);
};

export const collect = async (source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) {
    signal.throwIfAborted();
    chunks.push(chunk);
  }
  signal.throwIfAborted();
  return Buffer.concat(chunks);
};

const requireExpected = (bytes: Uint8Array, { digest, size }: ExpectedContent): void => {
  if (size !== null && size !== bytes.length)
    throw new KilnError("CONTENT_SIZE_MISMATCH", `${digest} ended after ${bytes.length} of ${size} bytes`, { object: digest });
  if (sha256Of(bytes) !== digest) throw new KilnError("CONTENT_DIGEST_MISMATCH", `other bytes came as ${digest}`, { object: digest });
};

/** As the real stores say it. */
export const orDiskFull = async <Result>(what: string, work: () => Promise<Result>): Promise<Result> => {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof SimDiskError) || error.code !== "ENOSPC") throw error;
    throw new KilnError("DISK_FULL", `there is no room to store ${what}`, { cause: error, object: what });
  }
};
