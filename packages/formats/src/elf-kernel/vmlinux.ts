import { constants, gunzipSync, zstdDecompressSync } from "node:zlib";
import { ElfFile } from "./elf.ts";
import { KernelFormatError } from "./errors.ts";
import { unpackLz4Legacy } from "./lz4.ts";

/** From a bzImage to the ELF kernel in it (Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol"). */

const SETUP_SECTS = 0x1f1;
const BOOT_FLAG = 0x1fe;
const MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR_BYTES = 512;
/** payload_offset and payload_length came with this version. */
const PAYLOAD_VERSION = 0x0208;
/** A kernel with every option is about 100 MB; nothing larger is unpacked. */
const MAX_VMLINUX_BYTES = 512 * 2 ** 20;

/** The compressed payload of a bzImage, still packed. Throws KernelFormatError INVALID, UNSUPPORTED. */
export const findPayload = (image: Uint8Array): Uint8Array => {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (image.length < 0x270 || view.getUint16(BOOT_FLAG, true) !== 0xaa55 || view.getUint32(MAGIC, false) !== 0x4864_7253) {
    throw new KernelFormatError("INVALID", "the kernel is not a bzImage: it has no setup header");
  }
  if (view.getUint16(VERSION, true) < PAYLOAD_VERSION)
    throw new KernelFormatError("UNSUPPORTED", "the kernel's boot protocol is older than 2.08");
  const setupSectors = view.getUint8(SETUP_SECTS) || 4;
  const start = (setupSectors + 1) * SECTOR_BYTES + view.getUint32(PAYLOAD_OFFSET, true);
  const length = view.getUint32(PAYLOAD_LENGTH, true);
  if (length < 8 || start + length > image.length) throw new KernelFormatError("INVALID", "the kernel's payload lies beyond its end");
  return image.subarray(start, start + length);
};

interface Packing {
  readonly name: string;
  readonly magic: readonly number[];
  /** null where it cannot be unpacked here. `size` is the number that the build appended. */
  readonly unpack: ((payload: Uint8Array, size: number) => Uint8Array) | null;
}

const withoutSize = (payload: Uint8Array): Uint8Array => payload.subarray(0, -4);

/** The kernel's scripts/Makefile.lib; all but gzip have their unpacked size appended, and gzip ends with it anyway. */
const PACKINGS: readonly Packing[] = [
  { name: "lz4", magic: [0x02, 0x21, 0x4c, 0x18], unpack: (payload, size) => unpackLz4Legacy(withoutSize(payload), size) },
  { name: "gzip", magic: [0x1f, 0x8b], unpack: (payload, size) => gunzipSync(payload, { maxOutputLength: size }) },
  {
    name: "zstd",
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    unpack: (payload, size) =>
      // the kernel's build uses windows of up to 128 MiB
      zstdDecompressSync(withoutSize(payload), { maxOutputLength: size, params: { [constants.ZSTD_d_windowLogMax]: 27 } }),
  },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], unpack: null },
  { name: "bzip2", magic: [0x42, 0x5a, 0x68], unpack: null },
  { name: "lzma", magic: [0x5d, 0x00, 0x00], unpack: null },
  { name: "lzo", magic: [0x89, 0x4c, 0x5a], unpack: null },
];

/** Unpacks the ELF kernel of a bzImage. Throws KernelFormatError INVALID, LIMIT, UNSUPPORTED. */
export const extractVmlinux = (image: Uint8Array): Uint8Array => {
  const payload = findPayload(image);
  const packing = PACKINGS.find(({ magic }) => magic.every((byte, index) => payload[index] === byte));
  if (packing === undefined) throw new KernelFormatError("UNSUPPORTED", "the kernel's payload is packed in an unknown way");
  if (packing.unpack === null)
    throw new KernelFormatError("UNSUPPORTED", `the kernel's payload is packed with ${packing.name}; lz4, gzip and zstd are supported`);
  const size = new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(payload.length - 4, true);
  if (size > MAX_VMLINUX_BYTES)
    throw new KernelFormatError("LIMIT", `the kernel says it has ${size} bytes unpacked, more than ${MAX_VMLINUX_BYTES}`);
  const vmlinux = unpackOrThrow(packing, payload, size);
  if (vmlinux.length !== size) throw new KernelFormatError("INVALID", `the kernel unpacks to ${vmlinux.length} of ${size} bytes`);
  return vmlinux;
};

const unpackOrThrow = (packing: Packing, payload: Uint8Array, size: number): Uint8Array => {
  try {
    return packing.unpack?.(payload, size) ?? new Uint8Array();
  } catch (error) {
    if (error instanceof KernelFormatError) throw error;
    throw new KernelFormatError("INVALID", `the kernel's ${packing.name} payload cannot be unpacked`, { cause: error });
  }
};

/** XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h): where a PVH boot enters the kernel. */
const PHYS32_ENTRY = 18;

/** The physical address at which a PVH boot enters. Throws KernelFormatError UNSUPPORTED where the kernel has none, INVALID. */
export const pvhEntry = (vmlinux: Uint8Array): number => {
  const note = new ElfFile(vmlinux).notes().find(({ owner, type }) => owner === "Xen" && type === PHYS32_ENTRY);
  if (note === undefined || note.content.length < 4) throw new KernelFormatError("UNSUPPORTED", "the kernel has no PVH entry (CONFIG_PVH)");
  return new DataView(note.content.buffer, note.content.byteOffset).getUint32(0, true);
};
