import type { ImageLayer, ResolvedImage } from "./ports.ts";

/** The layer of an image that is one file system: its rootfs is that blob. null for an image of layers. */
export const wholeFileSystem = (image: Pick<ResolvedImage, "layers">): ImageLayer | null => {
  const [first] = image.layers;
  return image.layers.length === 1 && first?.format === "ext4" ? first : null;
};
