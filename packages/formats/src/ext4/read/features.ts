/** Feature words of the superblock: Documentation/filesystems/ext4/super.rst of the kernel, and fs/ext4/ext4.h. */
import { Ext4ReadError } from "./errors.ts";

export interface Features {
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
}

export const COMPAT = { hasJournal: 0x4 } as const;

export const INCOMPAT = {
  fileType: 0x2,
  recover: 0x4,
  metaGroups: 0x10,
  extents: 0x40,
  bits64: 0x80,
  multiMount: 0x100,
  flexGroups: 0x200,
  xattrInodes: 0x400,
  checksumSeed: 0x2000,
  largeDirectories: 0x4000,
  inlineData: 0x8000,
} as const;

/** Names as dumpe2fs shows them. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x1, "compression"],
  [0x8, "journal_dev"],
  [0x1000, "dirdata"],
  [0x1_0000, "encrypt"],
  [0x2_0000, "casefold"],
]);

export const RO_COMPAT = { groupChecksum: 0x10, bigAllocation: 0x200, metadataChecksum: 0x400 } as const;

const READ = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);

/** Refuses what would be misread: incompat features only, all others leave a file system readable. Throws Ext4ReadError UNSUPPORTED. */
export const checkFeatures = ({ incompat }: Features): void => {
  for (let bit = 0; bit < 32; bit += 1) {
    const flag = 2 ** bit;
    if ((incompat & flag) === 0 || (READ & flag) !== 0) continue;
    const name = NAMES.get(flag) ?? `incompat 0x${flag.toString(16)}`;
    throw new Ext4ReadError("UNSUPPORTED", `the superblock has the feature ${name}, which is not read here`);
  }
};
