import { sniffLayerEncoding } from "@kiln/formats/oci";

export type Compression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

/** Bytes that tell every form apart. */
export const SNIFF_BYTES = 6;

const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);

/** How a file is packed, from its first bytes. */
export const sniffCompression = (head: Uint8Array): Compression => {
  if (XZ.equals(head.subarray(0, XZ.length))) return "xz";
  if (Buffer.from(head.subarray(0, 3)).toString("latin1") === "BZh") return "bzip2";
  const encoding = sniffLayerEncoding(head);
  return encoding === "tar" ? "none" : encoding === "tar+gzip" ? "gzip" : "zstd";
};
