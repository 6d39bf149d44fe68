import { dockerName } from "@kiln/formats/oci";
import { KilnError, type OperationId, type OperationPart, type Progress } from "@kiln/protocol";
import { wholeFileSystem } from "../images/ext4-image.ts";
import type { ContentLease, FetchOptions, ImageSource, SourceRequest } from "../images/ports.ts";
import type { ImageRecord, ImageStore } from "../images/records.port.ts";
import { parseImageReference } from "../images/reference.ts";
import { shareBlob } from "./share-blob.ts";
import type { JoinedWork } from "./work.port.ts";

interface Refetching extends Omit<SourceRequest, "platform"> {
  /** Holds the image's blobs. */
  readonly lease: ContentLease;
  readonly operation: OperationId;
  readonly signal: AbortSignal;
  readonly phase: (name: string) => void;
  readonly report: (progress: Progress) => void;
  readonly parts: (parts: readonly OperationPart[]) => void;
}

interface Origin {
  readonly source: ImageSource;
  readonly reference: string;
}

/** Fetches what is missing of an image that has its record, from where it came. */
export class ImageRefetch {
  readonly #parts: { readonly images: ImageStore; readonly sources: readonly ImageSource[]; readonly work: JoinedWork };

  constructor(parts: { images: ImageStore; sources: readonly ImageSource[]; work: JoinedWork }) {
    this.#parts = parts;
  }

  /**
   * By any of the image's names that a source knows, and by its digest: where a name leads by now does not matter. No
   * record changes. Throws IMAGE_CONTENT_MISSING where no source knows it, and what the last source throws.
   */
  async run(image: ImageRecord, how: Refetching): Promise<void> {
    const origins = this.#origins(image);
    if (origins.length === 0) throw missing(image, "it comes from a file that is not at hand");
    const failures: unknown[] = [];
    for (const { source, reference } of origins) {
      try {
        const { root } = await source.fetch(reference, this.#options(image, how));
        if (root === image.root) return;
        failures.push(missing(image, `${reference} leads to ${root} by now`));
      } catch (error) {
        how.signal.throwIfAborted();
        failures.push(error);
      }
    }
    throw failures.at(-1);
  }

  #options(image: ImageRecord, how: Refetching): FetchOptions {
    const { signal, credentials, plainHttp, lease, operation } = how;
    return {
      ...{ signal, credentials, plainHttp, lease, platform: image.image.platform },
      onPhase: how.phase,
      onProgress: how.report,
      onParts: how.parts,
      share: (work, options) => shareBlob({ work: this.#parts.work, operation }, work, options),
    };
  }

  /** Its own name first, then the other names of the same content. */
  #origins(image: ImageRecord): Origin[] {
    // no registry has what a person registered here, and none is asked for it
    if (wholeFileSystem(image.image) !== null) return [];
    const others = this.#parts.images.listImages().filter(({ root, reference }) => root === image.root && reference !== image.reference);
    return [image, ...others].flatMap(({ reference }) => {
      const source = this.#parts.sources.find((one) => one.accepts(reference));
      return source === undefined ? [] : [{ source, reference: pinned(reference, image) }];
    });
  }
}

const pinned = (text: string, { root }: ImageRecord): string => {
  const reference = parseImageReference(text);
  return reference.transport === "docker" ? dockerName({ ...reference, tag: null, digest: root }) : text;
};

const missing = ({ reference }: ImageRecord, why: string): KilnError =>
  new KilnError("IMAGE_CONTENT_MISSING", `blobs of ${reference} are missing or damaged, and ${why}`, {
    ...{
      object: reference,
      hint: `bring them back with \`kiln pull\`, \`kiln load\` or \`kiln image register\`, then build it again with \`kiln image rebuild ${reference}\``,
    },
  });
