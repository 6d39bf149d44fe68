import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ScriptedRegistry, type Reply, refusal } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { createImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { buildTar } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { type ChaosDriver, IMAGE_TAGS, type RegistryMood } from "./plan.ts";

/** Of a layer that is no program: enough to be cut off in the middle. */
const LAYER_BYTES = 100_000;
const REPOSITORY = "chaos";
const BUSYBOX = "/bin/busybox";
/** While it lasts, each request meets it with this probability: some get through, and what they got is not lost. */
const MOOD_SHARE = 0.6;

/** A registry with a few images that serves them well, or as its mood is. */
export class MoodyRegistry implements AsyncDisposable {
  mood: RegistryMood | null = null;
  readonly #server: ScriptedRegistry;

  private constructor(server: ScriptedRegistry) {
    this.#server = server;
    server.script = (_asked, honest) => this.#reply(honest);
  }

  static async start(driver: ChaosDriver): Promise<MoodyRegistry> {
    const server = await ScriptedRegistry.start();
    const program = driver === "fake" ? [] : [await programLayer()];
    for (const [index, tag] of IMAGE_TAGS.entries()) {
      const own = buildTar([{ path: `of-${tag}`, content: Buffer.alloc(LAYER_BYTES, index + 1) }]);
      server.serve(REPOSITORY, tag, createImage([...program, own]));
    }
    return new MoodyRegistry(server);
  }

  /** The reference of an image. */
  reference(tag: string): string {
    return `${this.#server.host}/${REPOSITORY}:${tag}`;
  }

  async #reply(honest: Reply): Promise<Reply> {
    this.#server.asked = [];
    if (this.mood === null || Math.random() > MOOD_SHARE) return honest;
    const { body = new Uint8Array(0) } = honest;
    switch (this.mood) {
      case "cut":
        return { ...honest, cutAfter: Math.floor(body.length / 2) };
      case "slow":
        await sleep(200);
        return honest;
      case "broken":
        return refusal(500, "UNKNOWN", "it is broken");
      case "busy":
        return { ...refusal(429, "TOOMANYREQUESTS", "slow down"), headers: { "retry-after": "0" } };
      case "lying":
        return { ...honest, body: body.map((byte, index) => (index === body.length - 1 ? byte ^ 1 : byte)) };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

const programLayer = async (): Promise<Buffer> =>
  buildTar([
    { path: "bin", type: "directory" },
    { path: "bin/busybox", content: await readFile(BUSYBOX), mode: 0o755 },
  ]);
