import type { OperationPart, Progress } from "@kiln/protocol";
import type { Clock } from "@kiln/std";

export interface LayerPart {
  readonly digest: string;
  readonly size: number;
}

interface Listener {
  readonly onProgress: (progress: Progress) => void;
  readonly onParts: (parts: readonly OperationPart[]) => void;
}

interface Part {
  readonly name: string;
  state: OperationPart["state"];
  done: number;
  readonly total: number;
}

/** How far the layers of one pull are. Told at most once in `everyMs`, and as it is at the end. */
export class PullProgress implements Disposable {
  readonly #listener: Listener;
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #end = new AbortController();
  #parts: readonly Part[] = [];
  #byDigest: ReadonlyMap<string, readonly Part[]> = new Map();
  #toldMs = -Infinity;
  #isDue = false;

  constructor(parts: { readonly listener: Listener; readonly clock: Clock; readonly everyMs: number }) {
    this.#listener = parts.listener;
    this.#clock = parts.clock;
    this.#everyMs = parts.everyMs;
  }

  /** The layers, the lowest first, with those that are there already. A layer that is in the image twice is a part twice. */
  begin(layers: readonly LayerPart[], isMissing: (digest: string) => boolean): void {
    this.#parts = layers.map(({ digest, size }) => {
      const isPresent = !isMissing(digest);
      return { name: digest, state: isPresent ? "present" : "waiting", done: isPresent ? size : 0, total: size };
    });
    this.#byDigest = Map.groupBy(this.#parts, (part) => part.name);
    this.#tell();
  }

  update(digest: string, change: { readonly state: OperationPart["state"]; readonly done?: number }): void {
    for (const part of this.#byDigest.get(digest) ?? []) {
      part.state = change.state;
      part.done = change.done ?? part.total;
      this.#changed();
    }
  }

  /** Tells what has not been told yet. */
  [Symbol.dispose](): void {
    this.#end.abort();
    if (this.#isDue) this.#tell();
  }

  #changed(): void {
    if (this.#isDue) return;
    const restMs = this.#toldMs + this.#everyMs - this.#clock.monotonicMs();
    if (restMs <= 0) {
      this.#tell();
      return;
    }
    this.#isDue = true;
    this.#clock.sleep(restMs, { signal: this.#end.signal }).then(
      () => this.#tell(),
      // the end has told it
      (error: unknown) => void error,
    );
  }

  #tell(): void {
    this.#isDue = false;
    this.#toldMs = this.#clock.monotonicMs();
    const sum = (of: (part: { done: number; total: number }) => number): number => this.#parts.reduce((all, part) => all + of(part), 0);
    this.#listener.onProgress({ done: sum((part) => part.done), total: sum((part) => part.total), unit: "bytes" });
    this.#listener.onParts(this.#parts.map((part) => ({ ...part })));
  }
}
