import { TarParser } from "../../tar/index.ts";
import type { TarEntry, TarVisitor } from "../../tar/index.ts";
import type { Extent } from "../disk/extents.ts";
import type { FileSystemIdentity } from "../disk/superblock.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";
import { BlockStream } from "../write/block-stream.ts";
import type { FileContent } from "../write/block-stream.ts";
import { finishImage } from "../write/finish.ts";
import type { ImageSummary } from "../write/finish.ts";
import { FIRST_DATA_BLOCK, MAX_IMAGE_BLOCKS } from "../write/geometry.ts";
import { TreeWriter } from "../write/tree-writer.ts";
import { BLOCK_BYTES } from "../disk/constants.ts";
import { HiddenPaths } from "./hidden.ts";
import { parseRecord, recordCostBytes } from "./record.ts";
import type { FileRecord, LayerRecord } from "./record.ts";
import { freezeTree } from "./freeze.ts";
import { LayerTree } from "./tree.ts";
import type { MergedDirectory } from "./tree.ts";

export interface ImageLimits {
  /** Largest image; never more than 512 GiB. */
  readonly maxImageBytes: number;
  /** Most entries of all layers together, directories that none names included. */
  readonly maxEntries: number;
  /** Most memory that the entries may take, by estimate. */
  readonly maxMetadataBytes: number;
}

export interface ImageOptions {
  readonly identity: FileSystemIdentity;
  readonly limits: ImageLimits;
  readonly layerCount: number;
}

/** Takes the uncompressed tar of one layer. Both throw TarError and Ext4Error; the image is then of no further use. */
export interface LayerInput {
  write(chunk: Uint8Array): void;
  end(): void;
}

/**
 * An ext4 image made from layer tars, written to a sink in one forward pass: content as it is read, metadata last.
 *
 *     for layers from the topmost (layerCount - 1) down to the lowest (0): input = image.readLayer(n); input.write(…)…; input.end()
 *     for n of image.layersToReadAgain(): the same with image.readLayerAgain(n)
 *     summary = image.finish()
 *
 * Topmost first, so that content which an upper layer hides is not written. Reading again is only needed where links made a hidden file
 * visible after all (one of several names of a file replaced by an upper layer, for one). The same tars give the same bytes.
 */
export class LayeredImage {
  readonly #options: ImageOptions;
  readonly #sink: Sink;
  readonly #stream: BlockStream;
  readonly #hidden = new HiddenPaths();
  readonly #layers: LayerRecord[][];
  #entries = 0;
  #metadataBytes = 0;
  #merged: MergedDirectory | null = null;

  constructor(options: ImageOptions, sink: Sink) {
    this.#options = options;
    this.#sink = sink;
    this.#layers = Array.from({ length: options.layerCount }, () => []);
    this.#stream = new BlockStream(sink, { firstBlock: FIRST_DATA_BLOCK, maxBlocks: this.#maxBlocks });
  }

  get #maxBlocks(): number {
    return Math.min(Math.floor(this.#options.limits.maxImageBytes / BLOCK_BYTES), MAX_IMAGE_BLOCKS);
  }

  readLayer(layer: number): LayerInput {
    const records: LayerRecord[] = [];
    this.#layers[layer] = records;
    const read = (entry: TarEntry): FileRecord | null => {
      const record = parseRecord(entry);
      this.#count(entry, record?.names.length ?? 0);
      if (record === null) return null;
      records.push(record);
      return record.does === "file" && !this.#hidden.hides(record.names) ? record : null;
    };
    // below the lowest there is nothing to hide
    return this.#input(read, () => (layer === 0 ? undefined : this.#hidden.add(records)));
  }

  #count(entry: TarEntry, names: number): void {
    const { maxEntries, maxMetadataBytes } = this.#options.limits;
    this.#entries += 1;
    this.#metadataBytes += recordCostBytes(entry, names);
    if (this.#entries > maxEntries) throw new Ext4Error("TOO_MANY_ENTRIES", `the layers have more than ${maxEntries} entries`);
    if (this.#metadataBytes > maxMetadataBytes)
      throw new Ext4Error("TOO_MANY_ENTRIES", `the entries of the layers take more than ${maxMetadataBytes} bytes`);
  }

  /** The layers with content that is needed but was taken for hidden, topmost first. All layers must have been read. */
  layersToReadAgain(): number[] {
    const missing = missingContent(this.#merge());
    return this.#layers
      .map((_, layer) => layer)
      .reverse()
      .filter((layer) => this.#layers[layer]?.some((record) => record.does === "file" && missing.has(record)));
  }

  readLayerAgain(layer: number): LayerInput {
    const missing = missingContent(this.#merge());
    const records = this.#layers[layer] ?? [];
    let next = 0;
    const read = (entry: TarEntry): FileRecord | null => {
      const again = parseRecord(entry);
      if (again === null) return null;
      const record = records[next];
      next += 1;
      if (record?.does !== again.does || record.names.join("/") !== again.names.join("/"))
        throw new Ext4Error("LAYER_CHANGED", "a layer has changed while it was read");
      return record.does === "file" && missing.has(record) ? record : null;
    };
    return this.#input(read, () => undefined);
  }

  /** Writes the metadata. Throws Ext4Error. */
  finish(): ImageSummary {
    const { root, used } = freezeTree(this.#merge());
    const freed = this.#freedExtents(used);
    const tree = new TreeWriter(this.#stream, this.#options.identity).write(root);
    return finishImage(this.#sink, { stream: this.#stream, tree, freed, identity: this.#options.identity, maxBlocks: this.#maxBlocks });
  }

  /** Written content that no name leads to in the end. */
  #freedExtents(used: ReadonlySet<FileContent>): Extent[] {
    const freed: Extent[] = [];
    for (const records of this.#layers) {
      for (const record of records)
        if (record.does === "file" && record.content !== null && !used.has(record.content)) freed.push(...record.content.extents);
    }
    return freed;
  }

  #merge(): MergedDirectory {
    if (this.#merged === null) {
      const tree = new LayerTree({
        impliedAt: { seconds: this.#options.identity.timeSeconds, nanoseconds: 0 },
        maxImplied: this.#options.limits.maxEntries - this.#entries,
      });
      for (const [layer, records] of this.#layers.entries()) tree.applyLayer(layer, records);
      this.#merged = tree.root;
    }
    return this.#merged;
  }

  /** `read` says which file an entry's content goes to, if it is wanted at all. */
  #input(read: (entry: TarEntry) => FileRecord | null, onEnd: () => void): LayerInput {
    const stream = this.#stream;
    let file: FileRecord | null = null;
    const visitor: TarVisitor = {
      entry: (entry) => {
        file = read(entry);
        return file !== null;
      },
      data: (bytes) => stream.append(bytes),
      hole: (lengthBytes) => stream.hole(lengthBytes),
      end: () => {
        if (file !== null) file.content = stream.endFile();
      },
    };
    const parser = new TarParser(visitor);
    return {
      write: (chunk) => parser.write(chunk),
      end: () => {
        parser.end();
        onEnd();
      },
    };
  }
}

const missingContent = (root: MergedDirectory): ReadonlySet<LayerRecord> => {
  const missing = new Set<LayerRecord>();
  const waiting = [root];
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    for (const { node } of directory.children.values()) {
      if (node.kind === "directory") waiting.push(node);
      else if (node.kind === "file" && node.record.content === null) missing.add(node.record);
    }
  }
  return missing;
};
