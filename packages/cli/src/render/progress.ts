import { Writable } from "node:stream";
import type { OperationPart, OperationView } from "@kiln/protocol";
import type { Host } from "../host.ts";
import { escapeControl } from "./escape.ts";
import { ellipsis } from "./table.ts";
import { formatBytes, shortDigest } from "./units.ts";

export interface ProgressState {
  readonly phase: string;
  /** The place in a queue; null while it works. */
  readonly position: number | null;
  readonly done: number | null;
  readonly total: number | null;
  readonly unit: string;
  /** What has a progress of its own: the layers of an image. */
  readonly parts?: readonly OperationPart[];
}

/** What takes less time than this shows no progress. */
const SHOW_AFTER_MS = 150;
/** Ten pictures a second are motion enough. */
const REDRAW_MS = 100;
const BAR_CELLS = 24;

const bar = (done: number, total: number): string => {
  const cells = Math.max(0, Math.min(BAR_CELLS, Math.round((BAR_CELLS * done) / total)));
  return `[${"#".repeat(cells)}${"-".repeat(BAR_CELLS - cells)}]`;
};

/** `position` counts from 1, which is the next. */
export const describePosition = (position: number): string =>
  position <= 1 ? "waiting, next in line" : `waiting, ${position - 1} in front`;

/** One line of progress: the phase, a bar where the total is known, the amount. */
export const renderProgress = (state: ProgressState): string => {
  const phase = escapeControl(state.phase);
  if (state.position !== null) return `${phase}  ${describePosition(state.position)}`;
  if (state.done === null) return `${phase} …`;
  const amount = (value: number) => (state.unit === "bytes" ? formatBytes(value) : `${value} ${state.unit}`);
  if (state.total === null || state.total <= 0) return `${phase}  ${amount(state.done)}`;
  return `${phase}  ${bar(state.done, state.total)}  ${amount(state.done)} / ${amount(state.total)}`;
};

const PART_WORDS: Readonly<Record<OperationPart["state"], string>> = {
  waiting: "waiting",
  active: "fetching",
  done: "done",
  present: "there already",
};

const renderPart = ({ name, state, done, total }: OperationPart): string => {
  const start = `  ${escapeControl(shortDigest(name))}  `;
  if (state !== "active") return `${start}${PART_WORDS[state]}`;
  if (total === null || total <= 0) return `${start}${formatBytes(done)}`;
  return `${start}${bar(done, total)}  ${formatBytes(done)} / ${formatBytes(total)}`;
};

const isFinished = (part: OperationPart): boolean => part.state === "done" || part.state === "present";

/** The parts in at most `lines`: all of them, or those that move and a count of the rest. */
const renderParts = (parts: readonly OperationPart[], lines: number): string[] => {
  if (parts.length <= lines) return parts.map(renderPart);
  if (lines < 1) return [];
  const active = parts.filter((part) => part.state === "active").slice(0, lines - 1);
  return [...active.map(renderPart), `  ${parts.filter(isFinished).length} of ${parts.length} layers are there`];
};

/** All that is under way, in at most `rows` lines of at most `columns` letters: a line each, and its parts while there is room. */
export const renderBlock = (
  states: readonly ProgressState[],
  { rows, columns }: { readonly rows: number; readonly columns: number },
): string[] => {
  const shown = states.length <= rows ? states : states.slice(0, Math.max(0, rows - 1));
  let room = rows - shown.length - (shown.length < states.length ? 1 : 0);
  const lines = shown.flatMap((state) => {
    const parts = renderParts(state.parts ?? [], room);
    room -= parts.length;
    return [renderProgress(state), ...parts];
  });
  const all = shown.length < states.length ? [...lines, `… and ${states.length - shown.length} more`] : lines;
  return all.map((line) => ellipsis(line, columns));
};

export const progressOf = (operation: OperationView): ProgressState => ({
  phase: operation.phase === null ? `${operation.kind} ${operation.subject}` : `${operation.subject}: ${operation.phase}`,
  position: operation.state === "queued" ? operation.position : null,
  done: operation.progress?.done ?? null,
  total: operation.progress?.total ?? null,
  unit: operation.progress?.unit ?? "",
  parts: operation.parts,
});

/** A terminal that does not say its size. */
const USUAL = { rows: 24, columns: 80 } as const;

/** stderr for log-update, which believes a size of 0. What is written has gone on when `write` returns, so it keeps its place among other output. */
class SizedTerminal extends Writable {
  readonly isTTY = true;
  readonly #stderr: Host["stderr"];

  constructor(stderr: Host["stderr"]) {
    super({ decodeStrings: false });
    this.#stderr = stderr;
  }

  get rows(): number {
    return this.#stderr.rows || USUAL.rows;
  }

  get columns(): number {
    return this.#stderr.columns || USUAL.columns;
  }

  override _write(text: string, _encoding: BufferEncoding, done: () => void): void {
    this.#stderr.write(text);
    done();
  }
}

/** Lines on stderr that are drawn over and over, and gone at the end. Without a terminal it is nothing. */
export class ProgressBlock implements AsyncDisposable {
  readonly #terminal: SizedTerminal;
  readonly #active: boolean;
  readonly #states = new Map<string, ProgressState>();
  #timer: NodeJS.Timeout | null = null;
  #drawing: Promise<void> = Promise.resolve();
  #draw: ((text: string) => void) | null = null;
  #erase: (() => void) | null = null;

  constructor(host: Host, options: { readonly json: boolean; readonly quiet?: boolean }) {
    this.#terminal = new SizedTerminal(host.stderr);
    this.#active = host.stderr.isTTY && !options.json && options.quiet !== true;
  }

  /** What is under way under a key: an operation, an image that is sent. */
  show(key: string, state: ProgressState): void {
    if (!this.#active) return;
    this.#states.set(key, state);
    this.#timer ??= setTimeout(() => this.#tick(), this.#draw === null ? SHOW_AFTER_MS : REDRAW_MS);
  }

  /** Takes one thing away, or all; `show` brings it back. */
  async clear(key?: string): Promise<void> {
    if (key === undefined) this.#states.clear();
    else this.#states.delete(key);
    if (this.#states.size > 0) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
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
      const block = createLogUpdate(this.#terminal, { showCursor: true });
      this.#draw = block;
      this.#erase = () => block.clear();
    }
    if (this.#states.size === 0) return;
    const size = { rows: this.#terminal.rows - 1, columns: this.#terminal.columns };
    this.#draw(renderBlock([...this.#states.values()], size).join("\n"));
  }
}
