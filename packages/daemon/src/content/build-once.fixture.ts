/**
 * Builds one rootfs when told to on stdin, so that several processes can be at it at once: with a job as its argument, it
 * prints "ready", and then, as JSON, what it published, or the code of what went wrong.
 */
import type { Digest } from "@kiln/protocol";
import { asKilnError } from "@kiln/protocol";
import type { ResolvedImage } from "../images/ports.ts";
import { ContentStore } from "./content-store.ts";
import { RootfsDirectory } from "./rootfs-directory.ts";

export interface BuildOnce {
  readonly directory: string;
  readonly stagingDir: string;
  readonly content: string;
  readonly image: Pick<ResolvedImage, "reference" | "layers">;
  readonly key: string;
  readonly times: number;
}

export interface BuiltOnce {
  readonly digest: Digest | null;
  readonly error: string | null;
}

const build = async ({ directory, stagingDir, content, image, key, times }: BuildOnce): Promise<BuiltOnce> => {
  const shelf = new ContentStore({ directory: content, stagingDir });
  const rootfs = new RootfsDirectory({ directory, stagingDir, blobPath: (digest) => shelf.path(digest) });
  const watch = { signal: new AbortController().signal, onPhase: () => undefined, onProgress: () => undefined };
  let digest: Digest | null = null;
  try {
    for (let time = 0; time < times; time += 1) ({ digest } = await rootfs.build(image as ResolvedImage, key, watch));
    return { digest, error: null };
  } catch (error) {
    return { digest: null, error: asKilnError(error).code };
  }
};

if (import.meta.main) {
  const job = JSON.parse(process.argv[2] ?? "") as BuildOnce;
  console.log("ready");
  await new Promise((resolve) => process.stdin.once("data", resolve));
  process.stdin.destroy();
  console.log(JSON.stringify(await build(job)));
}
