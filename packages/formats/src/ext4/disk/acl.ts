import { Ext4Error } from "../errors.ts";

const XATTR_VERSION = 2;
const DISK_VERSION = 1;
const TAG = { userObject: 0x01, user: 0x02, groupObject: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;
const WITHOUT_ID: ReadonlySet<number> = new Set([TAG.userObject, TAG.groupObject, TAG.mask, TAG.other]);
const WITH_ID: ReadonlySet<number> = new Set([TAG.user, TAG.group]);

/**
 * Turns the value of a system.posix_acl_* attribute, as the kernel hands it to programs (version 2, eight bytes an entry), into ext4's form
 * (version 1, ids only where they mean something). Throws Ext4Error XATTR_INVALID.
 */
export const encodeAcl = (value: Uint8Array): Buffer => {
  const view = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (view.length < 4 || (view.length - 4) % 8 !== 0 || view.readUInt32LE(0) !== XATTR_VERSION) {
    throw new Ext4Error("XATTR_INVALID", "a POSIX ACL is malformed");
  }
  const version = Buffer.alloc(4);
  version.writeUInt32LE(DISK_VERSION, 0);
  const parts: Buffer[] = [version];
  for (let at = 4; at < view.length; at += 8) {
    const tag = view.readUInt16LE(at);
    if (WITH_ID.has(tag)) parts.push(view.subarray(at, at + 8));
    else if (WITHOUT_ID.has(tag)) parts.push(view.subarray(at, at + 4));
    else throw new Ext4Error("XATTR_INVALID", `a POSIX ACL has an entry with the unknown tag ${tag}`);
  }
  return Buffer.concat(parts);
};
