import type { OperationView } from "@kiln/protocol";
import { escapeControl } from "./escape.ts";
import type { ProgressBlock } from "./progress.ts";

/** What an operation's commands write, each line once and in order, above its progress. */
export class OutputLines {
  readonly #write: (text: string) => Promise<void>;
  readonly #progress: Pick<ProgressBlock, "clear">;
  #shown = 0;
  /** Settles when all that was shown has been written. */
  written: Promise<void> = Promise.resolve();

  constructor(write: (text: string) => Promise<void>, progress: Pick<ProgressBlock, "clear">) {
    this.#write = write;
    this.#progress = progress;
  }

  /** The daemon keeps the newest lines only: where more came between two views, it is said how many. */
  show({ id, output }: Pick<OperationView, "id" | "output">): void {
    if (output === null || output.lines < this.#shown) this.#shown = 0; // the work has begun anew
    if (output === null || output.lines === this.#shown) return;
    const fresh = output.lines - this.#shown;
    const known = output.tail.slice(-Math.min(fresh, output.tail.length));
    const lost = fresh - known.length;
    this.#shown = output.lines;
    const lines = [...(lost > 0 ? [`… ${lost} lines`] : []), ...known].map((line) => `  ${escapeControl(line)}\n`);
    this.written = this.written.then(async () => {
      await this.#progress.clear(id);
      await this.#write(lines.join(""));
    });
    this.written.catch(() => undefined); // whoever awaits it at the end is told
  }
}
