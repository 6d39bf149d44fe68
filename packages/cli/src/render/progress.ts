import type { OperationView } from "@kiln/protocol";
import type { Host } from "../host.ts";
import { escapeControl } from "./escape.ts";
import { formatBytes } from "./units.ts";

export interface ProgressState {
  readonly phase: string;
  /** The place in a queue; null while it works. */
  readonly position: number | null;
  readonly done: number | null;
  readonly total: number | null;
  readonly unit: string;
}

/** What takes less time than this shows no progress. */
const SHOW_AFTER_MS = 150;
/** Ten pictures a second are motion enough. */
const REDRAW_MS = 100;
const BAR_CELLS = 24;

/** One line of progress: the phase, a bar where the total is known, the amount. */
export const renderProgress = (state: ProgressState): string => {
  const phase = escapeControl(state.phase);
  if (state.position !== null) return `${phase}  waiting, ${state.position} in front`;
  if (state.done === null) return `${phase} …`;
  const amount = (value: number) => (state.unit === "bytes" ? formatBytes(value) : `${value} ${state.unit}`);
  if (state.total === null || state.total <= 0) return `${phase}  ${amount(state.done)}`;
  const cells = Math.min(BAR_CELLS, Math.round((BAR_CELLS * state.done) / state.total));
  return `${phase}  [${"#".repeat(cells)}${"-".repeat(BAR_CELLS - cells)}]  ${amount(state.done)} / ${amount(state.total)}`;
};

export const progressOf = (operation: OperationView): ProgressState => ({
  phase: operation.phase === null ? `${operation.kind} ${operation.subject}` : `${operation.subject}: ${operation.phase}`,
  position: operation.state === "queued" ? operation.position : null,
  done: operation.progress?.done ?? null,
  total: operation.progress?.total ?? null,
  unit: operation.progress?.unit ?? "",
});

/** A line on stderr that is drawn over and over, and gone at the end. Without a terminal it is nothing. */
export class ProgressLine implements AsyncDisposable {
  readonly #host: Host;
  readonly #active: boolean;
  #state: ProgressState | null = null;
  #timer: NodeJS.Timeout | null = null;
  #drawing: Promise<void> = Promise.resolve();
  #draw: ((text: string) => void) | null = null;
  #erase: (() => void) | null = null;

  constructor(host: Host, options: { readonly json: boolean }) {
    this.#host = host;
    this.#active = host.stderr.isTTY && !options.json;
  }

  show(state: ProgressState): void {
    if (!this.#active) return;
    this.#state = state;
    this.#timer ??= setTimeout(() => this.#tick(), this.#draw === null ? SHOW_AFTER_MS : REDRAW_MS);
  }

  /** Takes the line away; `show` brings it back. */
  async clear(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#state = null;
    await this.#drawing;
    this.#erase?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.clear();
  }

  #tick(): void {
    this.#timer = null;
    this.#drawing = this.#redraw();
  }

  async #redraw(): Promise<void> {
    if (this.#draw === null) {
      // Loaded here: what is quick, and what has no terminal, never needs it.
      const { createLogUpdate } = await import("log-update");
      const line = createLogUpdate(this.#host.stderr, { showCursor: true });
      this.#draw = line;
      this.#erase = () => line.clear();
    }
    if (this.#state !== null) this.#draw(renderProgress(this.#state));
  }
}
