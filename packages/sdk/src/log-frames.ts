import { KilnError } from "@kiln/protocol/errors";
import { LENGTH_PREFIX_BYTES, parseDataFrame, type DataFrame } from "@kiln/protocol/streams";
import { joinBytes } from "./bytes.ts";
import { SDK_LIMITS } from "./limits.ts";

/**
 * The frames of an `application/vnd.kiln.stream` body: each a data frame behind its length, u32 little-endian.
 * Throws INTERNAL on a length that no daemon sends, DAEMON_UNREACHABLE if the body ends inside a frame.
 */
export async function* framesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<DataFrame> {
  let rest: Uint8Array = new Uint8Array();
  for await (const chunk of body) {
    rest = rest.length === 0 ? chunk : joinBytes([rest, chunk]);
    for (;;) {
      if (rest.length < LENGTH_PREFIX_BYTES) break;
      const size = new DataView(rest.buffer, rest.byteOffset).getUint32(0, true);
      if (size > SDK_LIMITS.frameBytes) throw new KilnError("INTERNAL", `the daemon sent a frame of ${size} bytes`);
      if (rest.length < LENGTH_PREFIX_BYTES + size) break;
      yield parseDataFrame(rest.subarray(LENGTH_PREFIX_BYTES, LENGTH_PREFIX_BYTES + size));
      rest = rest.subarray(LENGTH_PREFIX_BYTES + size);
    }
  }
  if (rest.length > 0) throw new KilnError("DAEMON_UNREACHABLE", "the log broke off inside a frame");
}
