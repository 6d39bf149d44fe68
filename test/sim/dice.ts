import { randomFraction, type RandomSource, seededRandom } from "@kiln/std";

/** What a seed decides. The same seed throws the same numbers in the same order. */
export class Dice {
  readonly source: RandomSource;

  constructor(seed: number) {
    this.source = seededRandom(seed);
  }

  /** In [0, count). */
  below(count: number): number {
    return Math.floor(randomFraction(this.source) * count);
  }

  chance(probability: number): boolean {
    return randomFraction(this.source) < probability;
  }

  /** One of them; there is at least one. */
  pick<Item>(items: readonly Item[]): Item {
    const index = this.below(items.length);
    if (index >= items.length) throw new RangeError("there is nothing to pick from");
    return items[index] as Item;
  }
}
