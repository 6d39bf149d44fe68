/** The newest bytes of a stream, in bounded memory. */
export class ByteTail {
  readonly #limitBytes: number;
  #bytes: Uint8Array = new Uint8Array();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  add(chunk: Uint8Array): void {
    const all = Buffer.concat([this.#bytes, chunk]);
    this.#bytes = all.byteLength > this.#limitBytes ? Buffer.from(all.subarray(-this.#limitBytes)) : all;
  }

  text(): string {
    return new TextDecoder().decode(this.#bytes);
  }
}
