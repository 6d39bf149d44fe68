import { createHash } from "node:crypto";
import type { ResolvedImage } from "./ports.ts";

export interface RootfsWriter {
  /** Changes whenever the same layers would give other bytes. */
  readonly version: string;
  /** Whatever else the bytes depend on. */
  readonly options: Readonly<Record<string, string | number | boolean>>;
}

/** 64 hex digits that name the rootfs of these layers: recompressed images share it, since diff ids are of unpacked tars. */
export const rootfsKey = (image: Pick<ResolvedImage, "layers">, writer: RootfsWriter): string => {
  const options = Object.entries(writer.options).sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = { kind: "kiln.rootfs", diffIds: image.layers.map((layer) => layer.diffId), version: writer.version, options };
  // one file can be a tar and an ext4 at once, and makes two rootfs; keys of tars alone are as they always were
  const kinds = image.layers.map(({ format }) => (format === "ext4" ? "ext4" : "tar"));
  if (kinds.includes("ext4")) Object.assign(parts, { kinds });
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
};
