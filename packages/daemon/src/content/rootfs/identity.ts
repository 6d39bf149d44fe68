import { createHash } from "node:crypto";
import type { FileSystemIdentity } from "@kiln/formats/ext4";

/** 1980-01-01, the date that reproducible archives use: build time must not be in the bytes. */
const FIXED_TIME_SECONDS = 315_532_800;

const derive = (purpose: string, key: string): Buffer => createHash("sha256").update(`kiln ${purpose}\0${key}`).digest().subarray(0, 16);

/** The RFC 9562 version for UUIDs of one's own making. */
const asUuid8 = (bytes: Buffer): Buffer => {
  const uuid = Buffer.from(bytes);
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid;
};

export const rootfsIdentity = (key: string): FileSystemIdentity => ({
  uuid: asUuid8(derive("rootfs uuid", key)),
  hashSeed: derive("rootfs hash seed", key),
  timeSeconds: FIXED_TIME_SECONDS,
  label: "",
});

/** `uuid` in its text form, checked by the caller. */
export const diskIdentity = (uuid: string, label: string): FileSystemIdentity => ({
  uuid: Buffer.from(uuid.replaceAll("-", ""), "hex"),
  hashSeed: derive("disk hash seed", uuid.toLowerCase()),
  timeSeconds: FIXED_TIME_SECONDS,
  label,
});
