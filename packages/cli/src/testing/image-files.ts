import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { buildTar } from "../../../formats/src/tar/tar-writer.fixture.ts";

const run = promisify(execFile);

export interface MadeImage {
  readonly tag: string | null;
  /** One layer each, by what its only file says. */
  readonly layers: readonly string[];
  readonly architecture?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export const digestOf = (bytes: Uint8Array | string): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

export interface Document {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** The blobs of an image as the OCI specs describe them, made without Kiln. */
export class ImageBlobs {
  readonly blobs = new Map<string, Buffer>();

  put(mediaType: string, content: Uint8Array | string): Document {
    const bytes = Buffer.from(content);
    this.blobs.set(digestOf(bytes), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length };
  }

  /** Returns the descriptor of the image's manifest. */
  image({ layers, architecture = "amd64" }: MadeImage): Document {
    const tars = layers.map((text) =>
      buildTar([
        { path: "bin", type: "directory" },
        { path: "bin/hello", content: text, mode: 0o755 },
      ]),
    );
    const config = {
      architecture,
      os: "linux",
      config: { Cmd: ["/bin/hello"], Env: ["PATH=/bin"], Labels: { layers: String(layers.length) } },
      rootfs: { type: "layers", diff_ids: tars.map(digestOf) },
    };
    const manifest = {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: this.put("application/vnd.oci.image.config.v1+json", JSON.stringify(config)),
      layers: tars.map((tar) => this.put("application/vnd.oci.image.layer.v1.tar+gzip", gzipSync(tar))),
    };
    return this.put(manifest.mediaType, JSON.stringify(manifest));
  }
}

/** Writes a layout of these images into a new directory. */
export const writeLayout = async (directory: string, images: readonly MadeImage[]): Promise<void> => {
  const made = new ImageBlobs();
  const manifests = images.map((image) => ({
    ...made.image(image),
    annotations: { ...(image.tag === null ? {} : { "org.opencontainers.image.ref.name": image.tag }), ...image.annotations },
  }));
  await mkdir(join(directory, "blobs/sha256"), { recursive: true });
  for (const [digest, bytes] of made.blobs) await writeFile(join(directory, "blobs/sha256", digest.slice(7)), bytes);
  await writeFile(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
};

/** Runs skopeo in a directory; its standard output. */
export const skopeo = async (cwd: string, ...argv: readonly string[]): Promise<string> => (await run("skopeo", argv, { cwd })).stdout;

export interface Inspected {
  readonly config: Readonly<Record<string, unknown>>;
  readonly diffIds: readonly string[];
}

/** What skopeo says that an image is: the config's contents, whatever the transport made of the manifest. */
export const inspect = async (cwd: string, reference: string): Promise<Inspected> => {
  const { config, rootfs } = JSON.parse(await skopeo(cwd, "inspect", "--config", reference)) as {
    config: Record<string, unknown>;
    rootfs: { diff_ids: string[] };
  };
  return { config, diffIds: rootfs.diff_ids };
};
