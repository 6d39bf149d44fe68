import { KilnError } from "@kiln/protocol/errors";

/** Other words for Go's names of architectures (containerd, platforms.Normalize). */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
  armhf: "arm/v7",
  i386: "386",
};

const PLATFORM = /^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9_.]+)?$/;

/** `linux/arm64`, or `arm64` and `aarch64` for the same. Throws USAGE. */
export const parsePlatform = (text: string): string => {
  const [os = "", ...rest] = text.includes("/") ? text.split("/") : ["linux", text];
  const [architecture = "", ...variant] = rest;
  const known = Object.hasOwn(ARCHITECTURES, architecture) ? (ARCHITECTURES[architecture] ?? architecture) : architecture;
  const platform = [os, known, ...variant].join("/");
  if (!PLATFORM.test(platform) || platform.length > 100)
    throw new KilnError("USAGE", `--platform ${text}: not a platform; write for example linux/arm64`);
  return platform;
};
