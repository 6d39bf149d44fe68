import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A directory of the test's own, removed at its end; its name has a space. */
export async function scratchDirectory(): Promise<AsyncDisposable & { readonly path: string; readonly staging: string }> {
  const path = await mkdtemp(join(tmpdir(), "kiln std "));
  const staging = join(path, "staging");
  await mkdir(staging);
  return { path, staging, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** A barrier: `arrive` resolves for all once `count` are there. */
export function barrier(count: number): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let there = 0;
  return () => {
    there += 1;
    if (there === count) resolve();
    return promise;
  };
}
