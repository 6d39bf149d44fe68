import type { Ext4Inode, Ext4Reader } from "@kiln/formats/ext4";

/** Names are raw bytes as characters. */
const nameOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

export const splitPath = (path: string): string[] => path.split("/").filter((name) => name !== "");

/** What is at a path below a directory, links not followed; null where there is nothing, or a part of the way is no directory. */
export const findBelow = (reader: Ext4Reader, from: Ext4Inode, path: string): Ext4Inode | null => {
  let found = from;
  for (const name of splitPath(path)) {
    if (found.type !== "directory") return null;
    const number = entriesOf(reader, found).find((entry) => entry.name === name)?.inode;
    if (number === undefined) return null;
    found = reader.inode(number);
  }
  return found;
};

export const entriesOf = (reader: Ext4Reader, directory: Ext4Inode): { name: string; inode: number }[] =>
  [...reader.readDirectory(directory)].map(({ name, inode }) => ({ name: nameOf(name), inode }));
