import type { Platform } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";

const ARCHITECTURES: Readonly<Record<string, Platform>> = {
  x64: { os: "linux", architecture: "amd64", variant: "" },
  arm64: { os: "linux", architecture: "arm64", variant: "v8" },
};

/** `os/architecture[/variant]`, as the API's schema allows it. */
export const parsePlatform = (text: string): Platform => {
  const [os = "", architecture = "", variant = ""] = text.split("/");
  return { os, architecture, variant };
};

/** Whether an image for `found` is what was asked for; a variant that was not asked for is no difference. */
export const suits = (found: Platform, wanted: Platform): boolean =>
  found.os === wanted.os &&
  found.architecture === wanted.architecture &&
  (wanted.variant === "" || found.variant === "" || found.variant === wanted.variant);

/** The platform of guests on a host, by Node's name of its processor. Throws IMAGE_PLATFORM_MISSING. */
export const guestPlatform = (arch: string): Platform => {
  const platform = ARCHITECTURES[arch];
  if (platform === undefined) throw new KilnError("IMAGE_PLATFORM_MISSING", `guests do not run on a host of architecture ${arch}`);
  return platform;
};
