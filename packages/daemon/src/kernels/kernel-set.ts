import { createHash } from "node:crypto";
import { KilnError } from "@kiln/protocol";
import { z } from "zod";

/** The files of a set, beside its manifest.json. */
export const KERNEL_FILES = ["vmlinux", "initramfs", "modules.ext4"] as const;
export type KernelFile = (typeof KERNEL_FILES)[number];
export const KERNEL_MANIFEST = "manifest.json";

/** Changes whenever the same package and agent would give other bytes. */
export const KERNEL_BUILDER_VERSION = "2";

/** What modules are for, by the first of each: what they need comes before them. */
export const MODULE_PURPOSES = {
  /** Loaded by init by itself: the bus and the agent's channel. */
  boot: ["virtio_pci", "virtio_console"],
  block: ["virtio_blk"],
  overlay: ["overlay"],
  net: ["virtio_net"],
  vsock: ["vmw_vsock_virtio_transport"],
  /** The bus of VMMs without PCI. */
  mmio: ["virtio_mmio"],
} as const;
export type ModulePurpose = keyof typeof MODULE_PURPOSES;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const file = z.strictObject({ sha256, size: z.int().nonnegative() });
const names = z.array(z.string());

const kernelManifest = z.strictObject({
  key: sha256,
  /** The catalog's name of the set. */
  name: z.string(),
  architecture: z.string(),
  /** As `uname -r` prints it. */
  release: z.string(),
  package: z.strictObject({ name: z.string(), version: z.string(), sha256 }),
  agentSha256: sha256,
  builderVersion: z.string(),
  files: z.strictObject({ vmlinux: file, initramfs: file, "modules.ext4": file }),
  /** For each purpose what to load from the initramfs, in order; what the kernel has built in is not listed. */
  modules: z.strictObject({ boot: names, block: names, overlay: names, net: names, vsock: names, mmio: names }),
});
export type KernelManifest = Readonly<z.output<typeof kernelManifest>>;

/** Throws ARTIFACT_DAMAGED with the name of the field (I8). */
export const parseKernelManifest = (text: string, object: string): KernelManifest => {
  const parsed = kernelManifest.safeParse(parseJson(text, object));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new KilnError(
    "ARTIFACT_DAMAGED",
    `the manifest of the kernel ${object} is not complete: ${issue?.path.join(".")}: ${issue?.message}`,
    { object },
  );
};

const parseJson = (text: string, object: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new KilnError("ARTIFACT_DAMAGED", `the manifest of the kernel ${object} is not JSON`, { cause: error, object });
  }
};

/** What a set is a function of. */
export interface KernelInputs {
  readonly packageName: string;
  readonly packageVersion: string;
  /** Of the .deb. */
  readonly packageSha256: string;
  readonly agentSha256: string;
  /** Of the builder and of the writer of the modules image. */
  readonly builderVersion: string;
}

/** 64 hex digits that name the set. */
export const kernelKey = (inputs: KernelInputs): string => {
  const { packageName, packageVersion, packageSha256, agentSha256, builderVersion } = inputs;
  return hexOf(["kiln.kernel", packageName, packageVersion, packageSha256, agentSha256, builderVersion]);
};

/** What sets of one Kiln share, whatever package they are made from. */
export const kernelBuilderDigest = (inputs: Pick<KernelInputs, "agentSha256" | "builderVersion">): string =>
  `sha256:${hexOf(["kiln.kernel-builder", inputs.agentSha256, inputs.builderVersion])}`;

const hexOf = (parts: readonly string[]): string => createHash("sha256").update(JSON.stringify(parts)).digest("hex");
