import type { OutputChunk } from "./output-buffer.ts";

const LINE_FEED = 10;

const lineFeeds = (bytes: Uint8Array): number => bytes.reduce((count, byte) => count + (byte === LINE_FEED ? 1 : 0), 0);

/** The last `lines` lines of a log that ends, over both streams in the order they were written; an unended line counts. */
export const tailOf = async (chunks: AsyncIterable<OutputChunk>, lines: number): Promise<OutputChunk[]> => {
  const kept: { readonly chunk: OutputChunk; readonly feeds: number }[] = [];
  let feeds = 0;
  for await (const chunk of chunks) {
    const own = lineFeeds(chunk.bytes);
    kept.push({ chunk, feeds: own });
    feeds += own;
    for (let first = kept[0]; first !== undefined && feeds - first.feeds > lines; first = kept[0]) {
      kept.shift();
      feeds -= first.feeds;
    }
  }
  const endsLine = kept.at(-1)?.chunk.bytes.at(-1) === LINE_FEED;
  return skipLines(
    kept.map(({ chunk }) => chunk),
    Math.max(0, feeds + (endsLine ? 0 : 1) - lines),
  );
};

const skipLines = (chunks: readonly OutputChunk[], lines: number): OutputChunk[] => {
  const out: OutputChunk[] = [];
  let left = lines;
  for (const chunk of chunks) {
    let from = 0;
    for (; left > 0 && from < chunk.bytes.length; from += 1) if (chunk.bytes[from] === LINE_FEED) left -= 1;
    if (from < chunk.bytes.length)
      out.push({
        ...chunk,
        offset: chunk.offset + from,
        droppedBytes: from === 0 ? chunk.droppedBytes : 0,
        bytes: chunk.bytes.subarray(from),
      });
  }
  return out;
};
