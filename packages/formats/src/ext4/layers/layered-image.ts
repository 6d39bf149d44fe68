import { TarParser } from "../../tar/index.ts";
import type { TarEntry, TarVisitor } from "../../tar/index.ts";
import type { Extent } from "../disk/extents.ts";
import type { FileSystemIdentity } from "../disk/superblock.ts";
import { Ext4Error } from "../errors.ts";
import type { Sink } from "../sink.ts";
import { BlockStream } from "../write/block-stream.ts";
import { EntryTable } from "../write/entry-table.ts";
import type { EntryId } from "../write/entry-table.ts";
import { finishImage } from "../write/finish.ts";
import type { ImageSummary } from "../write/finish.ts";
import { FIRST_DATA_BLOCK, MAX_IMAGE_BLOCKS } from "../write/geometry.ts";
import { TreeWriter } from "../write/tree-writer.ts";
import { BLOCK_BYTES } from "../disk/constants.ts";
import { entryOf, kindOf } from "../write/children.ts";
import type { Child } from "../write/children.ts";
import type { DirectoryNode } from "../write/node.ts";
import { HiddenPaths } from "./hidden.ts";
import { parseRecord, recordCostBytes } from "./record.ts";
import { RecordLog } from "./record-log.ts";
import { LayerTree } from "./tree.ts";

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
  #hidden = new HiddenPaths();
  readonly #table = new EntryTable();
  readonly #layers: RecordLog[];
  #entries = 0;
  #metadataBytes = 0;
  #merged: DirectoryNode | null = null;
  /** Files without content once every layer has been read. */
  #missing: ReadonlySet<EntryId> | null = null;

  constructor(options: ImageOptions, sink: Sink) {
    this.#options = options;
    this.#sink = sink;
    this.#layers = Array.from({ length: options.layerCount }, (_, layer) => new RecordLog(this.#table, layer));
    this.#stream = new BlockStream(sink, { firstBlock: FIRST_DATA_BLOCK, maxBlocks: this.#maxBlocks });
  }

  get #maxBlocks(): number {
    return Math.min(Math.floor(this.#options.limits.maxImageBytes / BLOCK_BYTES), MAX_IMAGE_BLOCKS);
  }

  readLayer(layer: number): LayerInput {
    const log = new RecordLog(this.#table, layer);
    this.#layers[layer] = log;
    // below the lowest there is nothing to hide
    const hides = layer > 0;
    const read = (entry: TarEntry): EntryId | null => {
      const record = parseRecord(entry);
      this.#count(entry, record?.names.length ?? 0);
      if (record === null) return null;
      const id = log.add(record);
      if (hides) this.#hidden.note(record);
      return record.does === "file" && !this.#hidden.hides(record.names) ? id : null;
    };
    return this.#input(read, () => this.#hidden.endLayer());
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
    const missing = this.#missingContent();
    if (missing.size === 0) return [];
    return this.#layers
      .map((_, layer) => layer)
      .reverse()
      .filter((layer) => hasAny(this.#layers[layer], missing));
  }

  readLayerAgain(layer: number): LayerInput {
    const missing = this.#missingContent();
    const records = (this.#layers[layer] ?? new RecordLog(this.#table, layer))[Symbol.iterator]();
    const read = (entry: TarEntry): EntryId | null => {
      const again = parseRecord(entry);
      if (again === null) return null;
      const next = records.next();
      const record = next.done === true ? null : next.value;
      if (record?.does !== again.does || record.names.join("/") !== again.names.join("/"))
        throw new Ext4Error("LAYER_CHANGED", "a layer has changed while it was read");
      return record.does === "file" && missing.has(record.entry) ? record.entry : null;
    };
    return this.#input(read, () => undefined);
  }

  /** Writes the metadata. The image is of no further use then. Throws Ext4Error. */
  finish(): ImageSummary {
    const root = this.#merge();
    this.#layers.length = 0;
    const { identity } = this.#options;
    const tree = new TreeWriter(this.#stream, identity, this.#table).write(root);
    const freed = this.#freedExtents(tree.numbering.nodes);
    return finishImage(this.#sink, { stream: this.#stream, tree, freed, identity, maxBlocks: this.#maxBlocks });
  }

  /** Written content that no name leads to in the end. */
  *#freedExtents(nodes: readonly Child[]): Generator<Extent> {
    const used = new Uint8Array(this.#table.length);
    for (const node of nodes) if (kindOf(node) === "file") used[entryOf(node)] = 1;
    for (let id = 0; id < used.length; id += 1) {
      if (used[id] === 0 && this.#table.hasContent(id)) yield* this.#table.content(id).extents;
    }
  }

  #missingContent(): ReadonlySet<EntryId> {
    return (this.#missing ??= this.#findMissing());
  }

  #findMissing(): ReadonlySet<EntryId> {
    const missing = new Set<EntryId>();
    const waiting = [this.#merge()];
    const look = (child: Child): void => {
      if (typeof child !== "number" && child.kind === "directory") waiting.push(child);
      else if (kindOf(child) === "file" && !this.#table.hasContent(entryOf(child))) missing.add(entryOf(child));
    };
    for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) directory.children.forEach(look);
    return missing;
  }

  #merge(): DirectoryNode {
    if (this.#merged === null) {
      this.#hidden = new HiddenPaths();
      const modifiedAt = { seconds: this.#options.identity.timeSeconds, nanoseconds: 0 };
      const tree = new LayerTree({
        entries: this.#table,
        implied: this.#table.add({ mode: 0o755, uid: 0, gid: 0, modifiedAt, xattrs: new Map() }, 0),
        maxImplied: this.#options.limits.maxEntries - this.#entries,
      });
      for (const [layer, records] of this.#layers.entries()) tree.applyLayer(layer, records);
      this.#merged = tree.root;
    }
    return this.#merged;
  }

  /** `read` says which file an entry's content goes to, if it is wanted at all. */
  #input(read: (entry: TarEntry) => EntryId | null, onEnd: () => void): LayerInput {
    const [stream, table] = [this.#stream, this.#table];
    let file: EntryId | null = null;
    const visitor: TarVisitor = {
      entry: (entry) => {
        file = read(entry);
        return file !== null;
      },
      data: (bytes) => stream.append(bytes),
      hole: (lengthBytes) => stream.hole(lengthBytes),
      end: () => {
        if (file !== null) table.setContent(file, stream.endFile());
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

const hasAny = (records: RecordLog | undefined, wanted: ReadonlySet<EntryId>): boolean => {
  for (const record of records ?? []) if (record.does === "file" && wanted.has(record.entry)) return true;
  return false;
};
