/**
 * The life of one process of the simulated host. What waits at a step of a life that has ended never goes on: as after
 * kill -9, no `finally` runs and nobody is told.
 */
export class Life {
  readonly name: string;
  #isOver = false;

  constructor(name: string) {
    this.name = name;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  end(): void {
    this.#isOver = true;
  }
}

/** The world itself, which nothing ends. */
export const WORLD = new Life("world");
