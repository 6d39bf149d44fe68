/** One message of an event stream (WHATWG HTML, 9.2.6). One without data only moves the cursor. */
export interface ServerSentEvent {
  /** "message" unless it says otherwise. */
  readonly name: string;
  /** The last id so far; null before the first. */
  readonly id: string | null;
  readonly data: string;
}

/** The messages of a UTF-8 stream; one that is cut off is none. */
export async function* serverSentEvents(stream: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let id: string | null = null;
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const message = parseBlock(block, id);
      id = message.id;
      yield message;
    }
  }
}

const parseBlock = (block: string, before: string | null): ServerSentEvent => {
  const data: string[] = [];
  let [name, id] = ["message", before];
  for (const line of block.split(/\r?\n/)) {
    const [, field = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (field === "data") data.push(value);
    else if (field === "event") name = value;
    else if (field === "id") id = value;
  }
  return { name, id, data: data.join("\n") };
};
