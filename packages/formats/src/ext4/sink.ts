/**
 * Where the bytes go. Ranges never overlap, except that the first block is written once, last. What is not written is zero: a sparse file
 * serves as it is, after it has been given its final size. `write` must be done with `bytes` when it returns; what it throws is passed on.
 */
export interface Sink {
  write(offset: number, bytes: Uint8Array): void;
  /** `write` for the first `length` bytes of a buffer that becomes the sink's; returns another of its size to go on with, or the same one. */
  exchange?(offset: number, buffer: Buffer<ArrayBuffer>, length: number): Buffer<ArrayBuffer>;
}
