/**
 * The life of one process of the simulated host. What waits at a step of a life that has ended never goes on: as after
 * kill -9, no `finally` runs and nobody is told.
 */
export class Life {
  readonly name: string;
  readonly #ended = Promise.withResolvers<void>();
  readonly #atEnd = new Set<() => void>();
  #isOver = false;

  constructor(name: string) {
    this.name = name;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Settles at its end. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** What the host does for a process that has ended, such as closing its sockets. */
  atEnd(close: () => void): void {
    this.#atEnd.add(close);
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const close of this.#atEnd) close();
    this.#ended.resolve();
  }
}

/** The world itself, which nothing ends. */
export const WORLD = new Life("world");
