import { Ext4Error } from "../errors.ts";

const XATTR_VERSION = 2;
const DISK_VERSION = 1;
const TAG = { userObject: 0x01, user: 0x02, groupObject: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;
const WITHOUT_ID: ReadonlySet<number> = new Set([TAG.userObject, TAG.groupObject, TAG.mask, TAG.other]);
const NO_ID = 0xffff_ffff;
const WITH_ID: ReadonlySet<number> = new Set([TAG.user, TAG.group]);

export const ACCESS_ACL = "system.posix_acl_access";

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

const malformed = (): Ext4Error => new Ext4Error("XATTR_INVALID", "a POSIX ACL is malformed");

const readEntries = (value: Uint8Array): AclEntry[] => {
  const view = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (view.length < 4 || (view.length - 4) % 8 !== 0 || view.readUInt32LE(0) !== XATTR_VERSION) throw malformed();
  return Array.from({ length: (view.length - 4) / 8 }, (_, index) => {
    const at = 4 + index * 8;
    return { tag: view.readUInt16LE(at), permissions: view.readUInt16LE(at + 2), id: view.readUInt32LE(at + 4) };
  });
};

/** The order that the kernel asks for: owner, users, group, groups, mask (wherever a user or a group is named), others; each right a bit. */
const checkEntries = (entries: readonly AclEntry[]): void => {
  const tags = entries.map(({ tag }) => tag);
  const isNamed = tags.some((tag) => WITH_ID.has(tag));
  const isOrdered = tags.every((tag, index) => {
    const before = tags[index - 1] ?? 0;
    return before < tag || (before === tag && WITH_ID.has(tag));
  });
  const base = [TAG.userObject, TAG.groupObject, TAG.other, ...(isNamed ? [TAG.mask] : [])];
  const isKnown = entries.every(
    ({ tag, permissions, id }) => permissions <= 7 && (WITHOUT_ID.has(tag) || (WITH_ID.has(tag) && id !== NO_ID)),
  );
  if (!isOrdered || !isKnown || !base.every((tag) => tags.includes(tag))) throw malformed();
};

/**
 * What an access ACL makes of the permission bits; `isMinimal` if it says no more than they do. An empty one takes the ACL away.
 * Throws Ext4Error XATTR_INVALID where the kernel refuses it.
 */
export const readAccessAcl = (value: Uint8Array, mode: number): { permissions: number; isMinimal: boolean } => {
  const entries = readEntries(value);
  if (entries.length === 0) return { permissions: mode & 0o777, isMinimal: true };
  checkEntries(entries);
  const of = (tag: number): number | undefined => entries.find((entry) => entry.tag === tag)?.permissions;
  const group = of(TAG.mask) ?? of(TAG.groupObject) ?? 0;
  const permissions = ((of(TAG.userObject) ?? 0) << 6) | (group << 3) | (of(TAG.other) ?? 0);
  return { permissions, isMinimal: entries.length === 3 };
};

/**
 * Turns the value of a system.posix_acl_* attribute, as the kernel hands it to programs (version 2, eight bytes an entry), into ext4's form
 * (version 1, ids only where they mean something); null for one without entries, which is none. Throws Ext4Error XATTR_INVALID.
 */
export const encodeAcl = (value: Uint8Array): Buffer | null => {
  const entries = readEntries(value);
  if (entries.length === 0) return null;
  checkEntries(entries);
  const version = Buffer.alloc(4);
  version.writeUInt32LE(DISK_VERSION, 0);
  const parts = entries.map(({ tag, permissions, id }) => {
    const out = Buffer.alloc(WITH_ID.has(tag) ? 8 : 4);
    out.writeUInt16LE(tag, 0);
    out.writeUInt16LE(permissions, 2);
    if (WITH_ID.has(tag)) out.writeUInt32LE(id, 4);
    return out;
  });
  return Buffer.concat([version, ...parts]);
};
