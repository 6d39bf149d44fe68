import { Ext4ReadError } from "./errors.ts";

const DISK_VERSION = 1;
const XATTR_VERSION = 2;
/** Entries of the owner, the owning group, the mask and others have no id; those of a named user or group have. */
const WITHOUT_ID: ReadonlySet<number> = new Set([0x01, 0x04, 0x10, 0x20]);
const WITH_ID: ReadonlySet<number> = new Set([0x02, 0x08]);
const NO_ID = 0xffff_ffff;

/** From ext4's form of a POSIX ACL to that which the kernel hands to programs. Throws Ext4ReadError XATTR. */
export const decodeAcl = (stored: Buffer, inode: number): Buffer => {
  const malformed = (): Ext4ReadError => new Ext4ReadError("XATTR", `inode ${inode} has a malformed POSIX ACL`);
  if (stored.length < 4 || stored.readUInt32LE(0) !== DISK_VERSION) throw malformed();
  const version = Buffer.alloc(4);
  version.writeUInt32LE(XATTR_VERSION, 0);
  const parts = [version];
  for (let at = 4; at < stored.length;) {
    const tag = at + 4 <= stored.length ? stored.readUInt16LE(at) : 0;
    const length = WITH_ID.has(tag) ? 8 : 4;
    if ((!WITH_ID.has(tag) && !WITHOUT_ID.has(tag)) || at + length > stored.length) throw malformed();
    const entry = Buffer.alloc(8);
    entry.writeUInt32LE(NO_ID, 4);
    entry.set(stored.subarray(at, at + length));
    parts.push(entry);
    at += length;
  }
  return Buffer.concat(parts);
};
