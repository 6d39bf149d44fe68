import { type Digest, KilnError } from "@kiln/protocol";
import type { ImageRecord } from "./records.port.ts";

/** What a name leads to. JSON. */
export interface NamedContent {
  readonly root: Digest;
  /** Of this platform's image; other platforms share the root. */
  readonly manifestDigest: Digest;
}

/** On what grounds a publisher takes a name. JSON. */
export interface NameClaim {
  /** What the name led to when the publisher looked; null where it was free. */
  readonly expect: NamedContent | null;
  /** Whether that may be replaced. A free name, and one that leads to the same content, needs no leave. */
  readonly replace: boolean;
}

export const namedContent = (record: ImageRecord | null): NamedContent | null =>
  record === null ? null : { root: record.root, manifestDigest: record.image.manifestDigest };

export const isSameContent = (one: NamedContent | null, other: NamedContent | null): boolean =>
  one?.root === other?.root && one?.manifestDigest === other?.manifestDigest;

/**
 * The one rule for all that give an image its name (I3): a free name is taken, the same content is no change, and other
 * content gives way only if it may be replaced and is what the publisher saw. To be asked in the transaction that
 * names the image. Throws IMAGE_NAME_CONFLICT.
 */
export const requireName = (current: ImageRecord | null, record: ImageRecord, { expect, replace }: NameClaim): void => {
  const found = namedContent(current);
  if (found === null || isSameContent(found, namedContent(record))) return;
  const { reference } = record;
  const to = `${record.image.manifestDigest} was to be published under ${reference}`;
  if (!replace) throw new KilnError("IMAGE_NAME_CONFLICT", `${to}, which is ${found.manifestDigest}`, { object: reference });
  if (isSameContent(found, expect)) return;
  throw new KilnError("IMAGE_NAME_CONFLICT", `${to}, which has become ${found.manifestDigest} meanwhile`, {
    object: reference,
    hint: "somebody else moved the name: look at it with `kiln image inspect`, then run the command again to replace it",
  });
};
