/** Builds one rootfs from the layers (JSON in the first argument) into the second, in a process of its own; prints its peak of memory in bytes. */
import { buildRootfs, type LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";

const [layers = "[]", target = ""] = process.argv.slice(2);
const interrupt = new AbortController();
process.once("SIGTERM", () => interrupt.abort());
await buildRootfs({ layers: JSON.parse(layers) as LayerSource[], target, key: "b".repeat(64) }, { signal: interrupt.signal });
process.stdout.write(String(process.resourceUsage().maxRSS * 1024));
