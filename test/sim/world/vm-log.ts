import type { VmId } from "@kiln/protocol";
import { abortable, Deferred } from "@kiln/std";
import type { OutputStream } from "../../../packages/daemon/src/vms/agent.port.ts";
import type { LogChunk, VmLog, VmLogs } from "../../../packages/daemon/src/vms/log.port.ts";
import type { HomeFiles } from "./home-files.ts";

const LOG = "log.0";
const NEWLINE = 0x0a;
export const isOfLog = (name: string): boolean => name === LOG;

type Offsets = Readonly<Record<OutputStream, number>>;

/** A line of the file: output, or the beginning of an epoch. */
type Line = readonly [stream: OutputStream, offset: number, base64: string] | readonly ["epoch", base: Offsets];

const START: Offsets = { stdout: 0, stderr: 0 };

class SimLog implements VmLog {
  readonly #home: HomeFiles;
  readonly #path: string;
  readonly #chunks: LogChunk[] = [];
  #base: Offsets = START;
  /** Chunks before this are of earlier epochs. */
  #epochAt = 0;
  #changed = new Deferred<void>();
  #closed = false;
  ends: Offsets = START;

  constructor(home: HomeFiles, path: string, lines: readonly Line[]) {
    this.#home = home;
    this.#path = path;
    for (const line of lines) this.#take(line);
  }

  #take(line: Line): void {
    if (line[0] === "epoch") {
      this.#base = line[1];
      this.#epochAt = this.#chunks.length;
      return;
    }
    const [stream, offset, base64] = line;
    const bytes = Buffer.from(base64, "base64");
    this.#chunks.push({ stream, offset, bytes });
    this.ends = { ...this.ends, [stream]: offset + bytes.length };
  }

  async #write(line: Line): Promise<void> {
    await this.#home.write(this.#path, new TextEncoder().encode(`${JSON.stringify(line)}\n`));
    this.#take(line);
    this.#changed.resolve();
    this.#changed = new Deferred();
  }

  beginEpoch(): Promise<void> {
    return this.#write(["epoch", this.ends]);
  }

  async append({ stream, offset, bytes }: LogChunk): Promise<void> {
    const begin = this.#base[stream] + offset;
    const known = Math.max(0, this.ends[stream] - begin);
    if (known >= bytes.length) return;
    await this.#write([stream, begin + known, Buffer.from(bytes.subarray(known)).toString("base64")]);
  }

  async *read(options: { follow: boolean; epochOnly: boolean; signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const base = options.epochOnly ? this.#base : START;
    for (let at = options.epochOnly ? this.#epochAt : 0; ;) {
      const changed = this.#changed.promise;
      const chunk = this.#chunks[at];
      if (chunk !== undefined) {
        at += 1;
        yield { ...chunk, offset: chunk.offset - base[chunk.stream] };
      } else if (!options.follow || this.#closed) return;
      else await abortable(changed, options.signal);
    }
  }

  letGo(): void {
    // nobody is waited for here
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#changed.resolve();
    this.#changed = new Deferred();
  }
}

/** Logs of VMs on the simulated disk. The daemon's death can cut the last line short; it is dropped at the next open. */
export class SimLogs implements VmLogs {
  readonly #home: HomeFiles;
  readonly #directoryOf: (id: VmId) => string;

  constructor(home: HomeFiles, directoryOf: (id: VmId) => string) {
    this.#home = home;
    this.#directoryOf = directoryOf;
  }

  async begin(id: VmId): Promise<VmLog> {
    const path = `${this.#directoryOf(id)}/${LOG}`;
    const found = await this.#open(id, { repair: true });
    if (found === null) await this.#home.files.create(path);
    const log = found ?? new SimLog(this.#home, path, []);
    await log.beginEpoch();
    return log;
  }

  open(id: VmId): Promise<VmLog | null> {
    return this.#open(id, { repair: true });
  }

  async *readEnded(id: VmId, { signal }: { signal: AbortSignal }): AsyncGenerator<LogChunk> {
    const log = await this.#open(id, { repair: false });
    if (log !== null) yield* log.read({ follow: false, epochOnly: false, signal });
  }

  async #open(id: VmId, { repair }: { repair: boolean }): Promise<SimLog | null> {
    const path = `${this.#directoryOf(id)}/${LOG}`;
    const bytes = await this.#home.readIfThere(path);
    if (bytes === null) return null;
    const { lines, wholeBytes } = readLines(bytes);
    if (repair && wholeBytes < bytes.length) await this.#home.files.truncate(path, wholeBytes);
    return new SimLog(this.#home, path, lines);
  }
}

/** Up to the first that a power failure has left half written: what was written behind it is lost. */
const readLines = (bytes: Uint8Array): { lines: Line[]; wholeBytes: number } => {
  const lines: Line[] = [];
  let at = 0;
  for (let end = bytes.indexOf(NEWLINE, at); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
    const line = parseLine(new TextDecoder().decode(bytes.subarray(at, end)));
    if (line === null) break;
    lines.push(line);
    at = end + 1;
  }
  return { lines, wholeBytes: at };
};

const parseLine = (text: string): Line | null => {
  try {
    return JSON.parse(text) as Line;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
};
