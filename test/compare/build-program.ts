/** Builds rootfs after rootfs and prints the digest of each: a process of its own, so that its host, its Node and its neighbours can be others. */
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";
import { buildHere } from "./unpack.ts";

/** What the first argument is a list of, as JSON. */
export interface BuildRequest {
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
  readonly target: string;
  readonly key: string;
  /** Whether it is built in a thread, as the daemon does. */
  readonly inThread: boolean;
}

for (const { inThread, ...request } of JSON.parse(process.argv[2] ?? "") as BuildRequest[]) {
  const built = inThread ? buildRootfs(request, { signal: AbortSignal.timeout(120_000) }) : buildHere(request);
  process.stdout.write(`${(await built).digest}\n`);
}
