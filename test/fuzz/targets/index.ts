import type { FuzzTarget } from "../engine/target.ts";

/** Each is loaded by itself, so that no other code is counted or takes memory. */
export const TARGETS: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  tar: async () => (await import("./tar.ts")).TAR,
  pax: async () => (await import("./pax.ts")).PAX,
  oci: async () => (await import("./oci.ts")).OCI,
  reference: async () => (await import("./reference.ts")).REFERENCE,
  bundle: async () => (await import("./bundle.ts")).BUNDLE,
  "layer-stream": async () => (await import("./layer-stream.ts")).LAYER_STREAM,
  layers: async () => (await import("./layers.ts")).LAYERS,
  ext4: async () => (await import("./ext4.ts")).EXT4,
  "ext4-journal": async () => (await import("./ext4.ts")).EXT4_JOURNAL,
};
