import { isUnreachable, NEVER, type ApiClient, type CallOptions } from "./api-client.ts";
import { SDK_LIMITS } from "./limits.ts";
import { Patience } from "./patience.ts";
import { framesOf } from "./log-frames.ts";
import { tailOf } from "./log-tail.ts";
import { OutputBuffer, type OutputChunk } from "./output-buffer.ts";

export interface LogOptions extends CallOptions {
  /** Go on as the VM writes, until it ends. */
  readonly follow?: boolean;
  /** Only the last lines of what is there. */
  readonly tailLines?: number | undefined;
}

/** What a VM's command wrote. A broken connection goes on where it broke: each byte comes once. */
export async function* readLog(api: ApiClient, path: string, options: LogOptions): AsyncGenerator<OutputChunk> {
  const seen = new OutputBuffer(Number.POSITIVE_INFINITY);
  const { tailLines } = options;
  if (tailLines !== undefined) {
    yield* await tailOf(chunksOf(api, path, { options: { ...options, follow: false }, seen }), tailLines);
    if (options.follow !== true) return;
  }
  yield* chunksOf(api, path, { options, seen });
}

/** What `seen` has not had yet. */
async function* chunksOf(
  api: ApiClient,
  path: string,
  { options, seen }: { options: LogOptions; seen: OutputBuffer },
): AsyncGenerator<OutputChunk> {
  const signal = options.signal ?? NEVER;
  const patience = new Patience(api.clock);
  for (;;) {
    try {
      const query = { follow: options.follow ?? false, stdout: seen.received("stdout"), stderr: seen.received("stderr") };
      for await (const frame of framesOf(await api.stream(path, { query, signal }))) {
        patience.answered();
        await seen.push(frame);
        const chunk = seen.isEmpty ? null : await seen.take();
        if (chunk !== null) yield chunk;
      }
      return;
    } catch (error) {
      if (!isUnreachable(error) || patience.isOver(SDK_LIMITS.sessionPatienceMs)) throw error;
    }
    await api.clock.sleep(SDK_LIMITS.sessionRetryMaxMs / 4, { signal });
  }
}
