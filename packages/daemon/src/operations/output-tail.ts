import type { OperationOutput } from "@kiln/protocol";
import type { Clock } from "@kiln/std";
import type { OutputStream } from "../vms/agent.port.ts";
import { OPERATION_LIMITS } from "./limits.ts";

const NEWLINE = /\r\n|\n/;

/** The newest lines of what commands write, told a few times a second however much it is. */
export class OutputTail {
  readonly #clock: Pick<Clock, "sleep">;
  readonly #tell: (output: OperationOutput) => void;
  readonly #decoders = new Map<OutputStream, TextDecoder>();
  /** What each stream has written of a line that has not ended. */
  readonly #open = new Map<OutputStream, string>();
  #tail: string[] = [];
  #lines = 0;
  #isDue = false;

  constructor(clock: Pick<Clock, "sleep">, tell: (output: OperationOutput) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  get tail(): readonly string[] {
    return this.#tail;
  }

  append(stream: OutputStream, bytes: Uint8Array, options: { signal: AbortSignal }): void {
    const decoder = this.#decoders.get(stream) ?? new TextDecoder();
    this.#decoders.set(stream, decoder);
    const lines = ((this.#open.get(stream) ?? "") + decoder.decode(bytes, { stream: true })).split(NEWLINE);
    const rest = lines.pop() ?? "";
    // a line without an end is cut, so that it cannot grow
    this.#open.set(stream, rest.slice(0, OPERATION_LIMITS.outputLineLength));
    this.#add(lines);
    if (lines.length === 0 || this.#isDue) return;
    this.#isDue = true;
    this.#clock.sleep(OPERATION_LIMITS.outputMs, options).then(
      () => this.#flush(),
      () => undefined,
    );
  }

  /** A command has ended: what it wrote last may have no end of line. */
  end(): void {
    this.#add([...this.#open.values()].filter((line) => line !== ""));
    this.#open.clear();
    this.#decoders.clear();
    this.#flush();
  }

  #add(lines: readonly string[]): void {
    this.#lines += lines.length;
    const kept = [...this.#tail, ...lines.slice(-OPERATION_LIMITS.outputLines)];
    this.#tail = kept.slice(-OPERATION_LIMITS.outputLines).map((line) => line.slice(0, OPERATION_LIMITS.outputLineLength));
  }

  #flush(): void {
    this.#isDue = false;
    this.#tell({ lines: this.#lines, tail: [...this.#tail] });
  }
}
