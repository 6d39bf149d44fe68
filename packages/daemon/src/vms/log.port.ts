import type { VmId } from "@kiln/protocol";
import type { OutputStream } from "./agent.port.ts";

export interface LogChunk {
  readonly stream: OutputStream;
  /** Bytes of this stream before this chunk. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The output of one VM's commands, start after start, kept by the host, bounded: the oldest goes. */
export interface VmLog {
  /** Where the next byte of each stream goes. */
  readonly ends: Readonly<Record<OutputStream, number>>;
  /** Keeps a chunk whose offset counts from the epoch's begin. Resolves once it survives the daemon's death. Bytes that are there already are left out. */
  append(chunk: LogChunk): Promise<void>;
  /**
   * Chunks from the oldest kept, in order; with `epochOnly` this epoch's alone, its offsets from 0. With `follow` it waits for more until `close`. A reader that `holds` loses
   * nothing: `append` waits for it before the oldest goes. One that does not sees offsets jump.
   */
  read(options: { follow: boolean; holds: boolean; epochOnly: boolean; signal: AbortSignal }): AsyncIterable<LogChunk>;
  /** From now on `append` waits for nobody: the VM has ended, and a reader that stands still must not hold up its end. */
  letGo(): void;
  /** No more will come in this epoch: readers get what is left, then end. */
  close(): Promise<void>;
}

export interface VmLogs {
  /** Begins an epoch behind what is there. */
  begin(id: VmId): Promise<VmLog>;
  /** The log as it was left, to go on writing it; null where there is none. */
  open(id: VmId): Promise<VmLog | null>;
  /** What a VM that does not run has left. */
  readEnded(id: VmId, options: { signal: AbortSignal }): AsyncIterable<LogChunk>;
}
