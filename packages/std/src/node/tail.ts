/** The last bytes of a stream, in bounded memory. */
export class Tail {
  readonly #limitBytes: number;
  #bytes: Uint8Array = new Uint8Array();
  #cut = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(chunk: Uint8Array): void {
    const all = Buffer.concat([this.#bytes, chunk]);
    this.#cut ||= all.byteLength > this.#limitBytes;
    this.#bytes = this.#cut ? Buffer.from(all.subarray(-this.#limitBytes)) : all;
  }

  /** The bytes as UTF-8, with "…" before them if earlier ones are gone. */
  text(): string {
    return (this.#cut ? "…" : "") + new TextDecoder().decode(this.#bytes);
  }
}
