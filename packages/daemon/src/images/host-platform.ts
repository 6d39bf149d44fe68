import type { Platform } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";

const ARCHITECTURES: Readonly<Record<string, Platform>> = {
  x64: { os: "linux", architecture: "amd64", variant: "" },
  arm64: { os: "linux", architecture: "arm64", variant: "v8" },
};

/** The platform of guests on a host, by Node's name of its processor. Throws IMAGE_PLATFORM_MISSING. */
export const guestPlatform = (arch: string): Platform => {
  const platform = ARCHITECTURES[arch];
  if (platform === undefined) throw new KilnError("IMAGE_PLATFORM_MISSING", `guests do not run on a host of architecture ${arch}`);
  return platform;
};
