import { MEDIA_TYPES, type ImageConfig, type Platform } from "@kiln/formats/oci";
import type { Digest, ImageExecution } from "@kiln/protocol";

/** An image whose only layer is a file system. */
export interface Registration {
  readonly rootfs: { readonly digest: Digest; readonly size: number };
  readonly platform: Platform;
  readonly config: ImageExecution;
}

const toBytes = (document: object): Uint8Array => new TextEncoder().encode(JSON.stringify(document));

const keys = (list: readonly string[]): Readonly<Record<string, object>> => Object.fromEntries([...list].sort().map((key) => [key, {}]));

/** An OCI config, whose diff id is the digest of the file system. The same registration gives the same bytes, wherever the file came from. */
export const registeredConfig = ({ rootfs, platform, config }: Registration): Uint8Array => {
  const { entrypoint, cmd, env, workingDir, user, stopSignal, exposedPorts, volumes, labels } = config;
  const sortedLabels = Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  return toBytes({
    architecture: platform.architecture,
    os: platform.os,
    ...(platform.variant === "" ? {} : { variant: platform.variant }),
    config: {
      ...(entrypoint.length === 0 ? {} : { Entrypoint: entrypoint }),
      ...(cmd.length === 0 ? {} : { Cmd: cmd }),
      ...(env.length === 0 ? {} : { Env: env }),
      ...(workingDir === "" ? {} : { WorkingDir: workingDir }),
      ...(user === "" ? {} : { User: user }),
      ...(stopSignal === "" ? {} : { StopSignal: stopSignal }),
      ...(exposedPorts.length === 0 ? {} : { ExposedPorts: keys(exposedPorts) }),
      ...(volumes.length === 0 ? {} : { Volumes: keys(volumes) }),
      ...(Object.keys(labels).length === 0 ? {} : { Labels: sortedLabels }),
    },
    rootfs: { type: "layers", diff_ids: [rootfs.digest] },
    history: [{ created_by: "kiln image register" }],
  });
};

export const registeredManifest = ({ rootfs }: Pick<Registration, "rootfs">, config: { digest: string; size: number }): Uint8Array =>
  toBytes({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    config: { mediaType: MEDIA_TYPES.config, digest: config.digest, size: config.size },
    layers: [{ mediaType: MEDIA_TYPES.layerExt4, digest: rootfs.digest, size: rootfs.size }],
  });

/** What a config says of how its programs run. */
export const executionOf = (config: ImageConfig): ImageExecution => ({
  entrypoint: [...config.entrypoint],
  cmd: [...config.cmd],
  env: [...config.env],
  workingDir: config.workingDir,
  user: config.user,
  stopSignal: config.stopSignal,
  exposedPorts: [...config.exposedPorts].sort(),
  volumes: [...config.volumes].sort(),
  labels: Object.fromEntries(Object.entries(config.labels).sort(([a], [b]) => (a < b ? -1 : 1))),
});
