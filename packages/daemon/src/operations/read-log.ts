import type { VmRecord } from "../vms/record.ts";
import type { LogChunk } from "../vms/log.port.ts";
import type { Core } from "./core.ts";

export interface LogStart {
  readonly stdout: number;
  readonly stderr: number;
}

export interface ReadLogOptions {
  readonly follow: boolean;
  /** Bytes of each stream that the caller has already. */
  readonly from: LogStart;
  /** Only the last lines; null for all that is kept. */
  readonly tailLines: number | null;
  readonly signal: AbortSignal;
}

const NEWLINE = 10;

/** What a VM's command has written, oldest first. */
export async function* readLog(core: Core, record: VmRecord, options: ReadLogOptions): AsyncGenerator<LogChunk> {
  const { tailLines, signal } = options;
  const open = (follow: boolean): AsyncIterable<LogChunk> => {
    const run = core.running.get(record.id);
    return run === null ? core.logs.readEnded(record.id, { signal }) : run.log.read({ follow, holds: false, epochOnly: false, signal });
  };
  const from = tailLines === null ? options.from : await findTail(open(false), tailLines);
  for await (const chunk of open(options.follow)) {
    const known = from[chunk.stream] - chunk.offset;
    if (known <= 0) yield chunk;
    else if (known < chunk.bytes.length) yield { ...chunk, offset: chunk.offset + known, bytes: chunk.bytes.subarray(known) };
  }
}

/** Where the last `lines` lines begin, in each stream. */
export const findTail = async (chunks: AsyncIterable<LogChunk>, lines: number): Promise<LogStart> => {
  const starts: { stream: LogChunk["stream"]; offset: number }[] = [];
  const ends = { stdout: 0, stderr: 0 };
  const atLineStart = { stdout: true, stderr: true };
  for await (const { stream, offset, bytes } of chunks) {
    for (const [index, byte] of bytes.entries()) {
      if (atLineStart[stream]) starts.push({ stream, offset: offset + index });
      if (starts.length > 2 * lines + 1) starts.splice(0, starts.length - lines);
      atLineStart[stream] = byte === NEWLINE;
    }
    ends[stream] = offset + bytes.length;
    if (starts.length > lines) starts.splice(0, starts.length - lines);
  }
  const first = (stream: LogChunk["stream"]): number => starts.find((start) => start.stream === stream)?.offset ?? ends[stream];
  return { stdout: first("stdout"), stderr: first("stderr") };
};
