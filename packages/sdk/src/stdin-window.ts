import { KilnError } from "@kiln/protocol/errors";

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * stdin on its way to the guest: what was sent and not yet acknowledged, kept to be sent again after a break, and
 * bounded, so that acknowledgements of output never queue behind stdin that the guest does not read.
 */
export class StdinWindow {
  readonly #windowBytes: number;
  readonly #pieces: Piece[] = [];
  #endOffset = 0;
  #takenOffset = 0;
  /** Where the current connection began to count. */
  #baseOffset = 0;
  #isOpen = true;
  #changed = Promise.withResolvers<void>();

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** Returns the offset of the bytes in the stream. */
  add(bytes: Uint8Array): number {
    const offset = this.#endOffset;
    this.#pieces.push({ offset, bytes });
    this.#endOffset += bytes.length;
    return offset;
  }

  /** The guest has taken what came before `offset`, as this connection counts. */
  acknowledge(offset: number): void {
    this.#takenOffset = Math.min(this.#endOffset, Math.max(this.#takenOffset, this.#baseOffset + offset));
    for (let oldest = this.#pieces[0]; oldest !== undefined; oldest = this.#pieces[0]) {
      if (oldest.offset + oldest.bytes.length > this.#takenOffset) break;
      this.#pieces.shift();
    }
    this.#wake();
  }

  /** Resolves when another piece may be sent, or none will be. */
  async room(): Promise<void> {
    while (this.#isOpen && this.#endOffset - this.#takenOffset >= this.#windowBytes) await this.#changed.promise;
  }

  close(): void {
    this.#isOpen = false;
    this.#wake();
  }

  /**
   * Begins a connection: what has to be sent again. `offset` is how much the guest has; null is a daemon that does
   * not say and counts each connection from 0. Throws VM_STATE_CONFLICT where bytes would be lost or doubled.
   */
  resume(offset: number | null): readonly Piece[] {
    const known = offset ?? (this.#takenOffset === this.#endOffset ? this.#endOffset : -1);
    if (known < this.#takenOffset || known > this.#endOffset) {
      throw new KilnError("VM_STATE_CONFLICT", "the connection broke while stdin was sent, and it is not known how much of it arrived");
    }
    this.#baseOffset = 0;
    this.acknowledge(known);
    if (offset === null) this.#baseOffset = this.#endOffset;
    return this.#pieces.map((piece) => {
      const skip = Math.max(0, known - piece.offset);
      return { offset: piece.offset + skip, bytes: piece.bytes.subarray(skip) };
    });
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
