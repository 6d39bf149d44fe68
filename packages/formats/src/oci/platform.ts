import type { Descriptor } from "./descriptor.ts";
import { OciError } from "./errors.ts";

/** OCI image-spec, image-index.md: GOOS and GOARCH names; the variant is "" where there is none. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

/** As docker prints it: `linux/amd64`, `linux/arm/v7`. */
export const platformText = (platform: Platform): string =>
  [platform.os, platform.architecture, platform.variant].filter((part) => part !== "").join("/");

/** arm64 without a variant is v8 (containerd's platforms package). */
const normalVariant = (platform: Platform): string =>
  platform.architecture === "arm64" && platform.variant === "v8" ? "" : platform.variant;

/**
 * The entry for a platform: the variant that was asked for, else the one without a variant. An index with a single
 * entry that names no platform is for any; whoever reads its config has to look there.
 * Throws OciError PLATFORM with what there is.
 */
export const selectPlatform = (manifests: readonly Descriptor[], wanted: Platform): Descriptor => {
  const matching = manifests.filter((one) => one.platform?.os === wanted.os && one.platform.architecture === wanted.architecture);
  const variant = normalVariant(wanted);
  const found =
    matching.find((one) => one.platform !== null && normalVariant(one.platform) === variant) ??
    matching.find((one) => one.platform !== null && normalVariant(one.platform) === "") ??
    (variant === "" ? matching[0] : undefined);
  if (found !== undefined) return found;
  const [only] = manifests;
  if (manifests.length === 1 && only?.platform === null) return only;
  const there = manifests.map((one) => (one.platform === null ? "unnamed" : platformText(one.platform))).join(", ");
  throw new OciError(
    "PLATFORM",
    `there is nothing for ${platformText(wanted)}; there is ${there === "" ? "nothing at all" : there.slice(0, 500)}`,
  );
};
