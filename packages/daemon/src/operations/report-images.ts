import { platformText } from "@kiln/formats/oci";
import type { ImageDetails, ImageView } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import type { Core } from "./core.ts";

/** Every blob an image needs: what its name led to, manifest, config and layers. */
export const blobsOf = (record: Pick<ImageRecord, "root" | "image">): string[] => [
  ...new Set<string>([
    record.root,
    record.image.manifestDigest,
    record.image.configDigest,
    ...record.image.layers.map((layer) => layer.digest),
  ]),
];

export const toImageView = (core: Core, record: ImageRecord): ImageView => {
  const rootfs = core.images.getRootfs(record.rootfsKey);
  return {
    reference: record.reference,
    digest: record.image.manifestDigest,
    platform: platformText(record.image.platform),
    layers: record.image.layers.length,
    sizeBytes: record.image.layers.reduce((total, layer) => total + layer.size, 0),
    rootfsDigest: rootfs?.digest ?? null,
    rootfsBytes: rootfs?.fingerprint.size ?? null,
    createdAt: record.createdAt,
    inUse: core.images.isRootfsInUse(record.rootfsKey),
  };
};

export const toImageDetails = (core: Core, record: ImageRecord): ImageDetails => {
  const { config, layers, configDigest, manifestDigest } = record.image;
  const listOrNull = (list: readonly string[]): string[] | null => (list.length === 0 ? null : [...list]);
  const names = core.images.listImages().filter((one) => one.image.manifestDigest === manifestDigest);
  return {
    ...toImageView(core, record),
    rootDigest: record.root,
    configDigest,
    names: names.map((one) => one.reference).sort(),
    rootfsKey: record.rootfsKey,
    layerList: layers.map(({ digest, diffId, mediaType, size }) => ({ digest, diffId, mediaType, sizeBytes: size })),
    config: {
      entrypoint: listOrNull(config.entrypoint),
      cmd: listOrNull(config.cmd),
      env: [...config.env],
      workingDir: config.workingDir,
      user: config.user,
      stopSignal: config.stopSignal === "" ? null : config.stopSignal,
      labels: { ...config.labels },
      exposedPorts: [...config.exposedPorts],
      volumes: [...config.volumes],
    },
  };
};
