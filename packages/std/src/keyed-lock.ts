import { Semaphore } from "./semaphore.ts";

interface Entry {
  readonly mutex: Semaphore;
  /** Its holder and all who wait. The entry goes when this reaches 0, never earlier. */
  references: number;
}

/**
 * A mutex for each key, first come, first served; keys do not know of each other. An entry lives as long as
 * someone holds or waits for it: removing it any earlier would let a newcomer make a second mutex for the key.
 */
export class KeyedLock<Key extends string> {
  readonly #entries = new Map<Key, Entry>();

  /** Keys that are held now. */
  get size(): number {
    return this.#entries.size;
  }

  /** Takes the key's lock; disposing of it (once or more) gives it back. Rejects with the signal's reason if it aborts while waiting. */
  async acquire(key: Key, { signal }: { signal: AbortSignal }): Promise<Disposable> {
    const entry = this.#entries.get(key) ?? { mutex: new Semaphore(1), references: 0 };
    this.#entries.set(key, entry);
    entry.references += 1;
    try {
      const permit = await entry.mutex.acquire({ signal });
      return this.#lock(key, entry, permit);
    } catch (error) {
      this.#release(key, entry);
      throw error;
    }
  }

  #lock(key: Key, entry: Entry, permit: Disposable): Disposable {
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        permit[Symbol.dispose]();
        this.#release(key, entry);
      },
    };
  }

  #release(key: Key, entry: Entry): void {
    entry.references -= 1;
    if (entry.references === 0) this.#entries.delete(key);
  }
}
