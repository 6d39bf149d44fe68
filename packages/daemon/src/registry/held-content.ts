import { type Descriptor, parseImageDocument } from "@kiln/formats/oci";
import type { Digest } from "@kiln/protocol";
import type { ContentInfo, ContentLease, ContentReader } from "../images/ports.ts";

/** The content store as one pull sees it: what it looks for is held from before the look. Remembers the last document read. */
export class HeldContent implements ContentReader {
  readonly #content: ContentReader;
  readonly #lease: ContentLease;
  #lastRead: Uint8Array | null = null;

  constructor(content: ContentReader, lease: ContentLease) {
    this.#content = content;
    this.#lease = lease;
  }

  stat(digest: Digest): Promise<ContentInfo | null> {
    this.#lease.hold(digest);
    return this.#content.stat(digest);
  }

  async read(digest: Digest, options: { limitBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    this.#lastRead = await this.#content.read(digest, options);
    return this.#lastRead;
  }

  /** The layers of the manifest that was read last; none where it was something else. */
  layers(): readonly Descriptor[] {
    if (this.#lastRead === null) return [];
    const document = parseImageDocument(this.#lastRead, null, "what was read");
    return document.kind === "manifest" ? document.layers : [];
  }
}
