import { type ByteSource, Ext4Reader, Ext4ReadError, overlayUpperToTar } from "@kiln/formats/ext4";
import { TarError } from "@kiln/formats/tar";
import { findBelow } from "./lookup.ts";
import { mountPointsOf } from "./mount-points.ts";

/** Where the agent puts the upper directory on the writable disk (guest/agent/src/mounts.c). */
const UPPER = "upper";

export interface UpperTar {
  /** null where nothing was written. */
  readonly tar: Iterable<Uint8Array> | null;
}

/** What a VM has written over its rootfs, as the tar of a layer. Throws Ext4ReadError, TarError; also while the tar is read. */
export const readUpper = ({ disk, rootfs }: { readonly disk: ByteSource; readonly rootfs: ByteSource }): UpperTar => {
  const reader = Ext4Reader.open(disk);
  const root = findBelow(reader, reader.root(), UPPER);
  // a guest that ended before it had mounted its disk has written nothing
  if (root === null) return { tar: null };
  const base = Ext4Reader.open(rootfs);
  const own = mountPointsOf({ reader, root }, { reader: base, root: base.root() });
  const exclude = (path: string): boolean => own.has(path);
  const [, first] = reader.walk({ from: root, exclude });
  return { tar: first === undefined ? null : overlayUpperToTar(reader, { upper: [UPPER], exclude }) };
};

/** Whether it is what the guest left that cannot be read. */
export const isDiskError = (error: unknown): boolean => error instanceof Ext4ReadError || error instanceof TarError;
