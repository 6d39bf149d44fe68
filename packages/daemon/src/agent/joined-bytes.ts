const FIRST_BYTES = 4096;

/** Bytes that come in pieces of any size and are taken all at once: whatever the pieces, it holds no more than `maxBytes`. */
export class JoinedBytes {
  readonly #maxBytes: number;
  #room = new Uint8Array(0);
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Copies them. The caller keeps the sum within `maxBytes`. */
  push(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#room.length) {
      const grown = new Uint8Array(Math.min(Math.max(length, 2 * this.#room.length, FIRST_BYTES), Math.max(this.#maxBytes, length)));
      grown.set(this.#room.subarray(0, this.#length));
      this.#room = grown;
    }
    this.#room.set(bytes, this.#length);
    this.#length = length;
  }

  /** Everything so far, which is the caller's; null where there is nothing. */
  take(): Uint8Array | null {
    if (this.#length === 0) return null;
    const bytes = this.#room.subarray(0, this.#length);
    this.#room = new Uint8Array(0);
    this.#length = 0;
    return bytes;
  }
}
