import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { type Digest, digestHex, isDigest } from "@kiln/protocol";
import { type ImportPlan, planImport } from "../images/import-plan.ts";
import type { ResolvedImage } from "../images/ports.ts";
import { rootfsKey } from "../images/rootfs-key.ts";
import { ContentStore } from "./content-store.ts";
import { lease } from "./lease.fixture.ts";

/** Layouts as skopeo and umoci write them, delivered blob by blob as a client does. */

const { signal } = new AbortController();
const AMD64 = { os: "linux", architecture: "amd64", variant: "" };
const WRITER = { version: "1", options: {} };

const isMissing = (command: string): boolean => {
  try {
    execFileSync(command, ["--version"], { stdio: "ignore" });
    return false;
  } catch {
    return true;
  }
};
const skip = isMissing("skopeo") || isMissing("umoci") ? "needs skopeo and umoci" : false;

interface Workplace {
  readonly directory: string;
  readonly content: ContentStore;
  /** A layout with the tag `v1`, as umoci wrote it. */
  readonly layout: string;
}

const tool = (command: string, ...args: string[]): void => void execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"] });

const withLayout = async (run: (place: Workplace) => Promise<void>): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-layout-"));
  try {
    const layout = join(directory, "layout");
    await mkdir(join(directory, "files"));
    await writeFile(join(directory, "files/hello"), "hello\n".repeat(1000));
    tool("umoci", "init", "--layout", layout);
    tool("umoci", "new", "--image", `${layout}:v1`);
    for (const target of ["/one", "/two"])
      tool("umoci", "insert", "--rootless", "--image", `${layout}:v1`, join(directory, "files"), target);
    tool(
      "umoci",
      "config",
      "--image",
      `${layout}:v1`,
      "--config.cmd",
      "/one/hello",
      "--config.env",
      "A=b",
      "--architecture",
      "amd64",
      "--os",
      "linux",
    );
    await run({
      directory,
      layout,
      content: new ContentStore({ directory: join(directory, "content"), stagingDir: join(directory, "staging") }),
    });
  } finally {
    execFileSync("chmod", ["-R", "u+w", directory]);
    await rm(directory, { recursive: true });
  }
};

const storeBytes = async (content: ContentStore, bytes: Uint8Array): Promise<Digest> => {
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield bytes;
  };
  return (await content.ingestUnnamed(source(), { lease, signal })).digest;
};

/** What a client does: sends the index, then what is missing until nothing is. Counts the rounds. */
const importLayout = async (
  content: ContentStore,
  layout: string,
  tag: string | null,
): Promise<{ image: ResolvedImage; rounds: number; sent: number }> => {
  const root = await storeBytes(content, await readFile(join(layout, "index.json")));
  let sent = 0;
  for (let rounds = 1; rounds < 10; rounds += 1) {
    const plan = await planImport({ reference: `oci:${layout}`, root, tag, platform: AMD64 }, content, { signal });
    if (plan.state === "complete") return { image: plan.image, rounds, sent };
    for (const { digest, size } of plan.missing) {
      await content.ingest(createReadStream(join(layout, "blobs/sha256", digestHex(digest))), { expected: { digest, size }, signal });
      sent += 1;
    }
  }
  throw new assert.AssertionError({ message: "the import never ends" });
};

suite("importing layouts", { skip }, () => {
  test("umoci's layout arrives in three rounds: manifest, then config and layers together", () =>
    withLayout(async ({ content, layout }) => {
      const { image, rounds, sent } = await importLayout(content, layout, "v1");
      assert.deepEqual([rounds, sent, image.layers.length], [3, 4, 2]);
      assert.deepEqual([image.config.cmd, image.config.env, image.platform], [["/one/hello"], ["A=b"], AMD64]);
      for (const layer of image.layers) {
        assert.equal(layer.format, "tar+gzip");
        const tar = execFileSync("gzip", ["-dc", content.path(layer.digest)]);
        assert.equal(layer.diffId, `sha256:${createHash("sha256").update(tar).digest("hex")}`);
      }
      const again = await importLayout(content, layout, null);
      assert.deepEqual([again.rounds, again.sent, again.image], [1, 0, image]);
    }));

  test("the same image packed by skopeo with zstd, or with docker's manifest, shares its rootfs", () =>
    withLayout(async ({ content, layout, directory }) => {
      const { image } = await importLayout(content, layout, "v1");
      const zstd = join(directory, "zstd");
      tool("skopeo", "--insecure-policy", "copy", "--dest-compress-format", "zstd", `oci:${layout}:v1`, `oci:${zstd}:v1`);
      const repacked = (await importLayout(content, zstd, "v1")).image;
      assert.deepEqual(new Set(repacked.layers.map((layer) => layer.format)), new Set(["tar+zstd"]));
      assert.notEqual(repacked.manifestDigest, image.manifestDigest);
      assert.equal(rootfsKey(repacked, WRITER), rootfsKey(image, WRITER));

      const docker = join(directory, "docker");
      tool("skopeo", "--insecure-policy", "copy", "--format", "v2s2", `oci:${layout}:v1`, `dir:${docker}`);
      const root = await storeBytes(content, await readFile(join(docker, "manifest.json")));
      const take = async (plan: ImportPlan): Promise<ResolvedImage> => {
        if (plan.state === "complete") return plan.image;
        for (const { digest, size } of plan.missing) {
          await content.ingest(createReadStream(join(docker, digestHex(digest))), { expected: { digest, size }, signal });
        }
        return take(await planImport({ reference: "dir", root, tag: null, platform: AMD64 }, content, { signal }));
      };
      const asDocker = await take(await planImport({ reference: "dir", root, tag: null, platform: AMD64 }, content, { signal }));
      assert.equal(rootfsKey(asDocker, WRITER), rootfsKey(image, WRITER));
      assert.match(asDocker.layers[0]?.mediaType ?? "", /docker/);
    }));
});

suite("planning an import", () => {
  const withContent = async (
    run: (content: ContentStore, store: (value: unknown) => Promise<{ digest: Digest; size: number }>) => Promise<void>,
  ): Promise<void> => {
    const directory = await mkdtemp(join(tmpdir(), "kiln-plan-"));
    try {
      const content = new ContentStore({ directory: join(directory, "content"), stagingDir: join(directory, "staging") });
      await run(content, async (value) => {
        const bytes = Buffer.from(JSON.stringify(value));
        return { digest: await storeBytes(content, bytes), size: bytes.length };
      });
    } finally {
      await rm(directory, { recursive: true });
    }
  };

  const INDEX = "application/vnd.oci.image.index.v1+json";
  const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
  const CONFIG = "application/vnd.oci.image.config.v1+json";
  const LAYER = "application/vnd.oci.image.layer.v1.tar";
  const plan = (content: ContentStore, root: Digest, tag: string | null = null) =>
    planImport({ reference: "oci:x", root, tag, platform: AMD64 }, content, { signal });
  const digestOf = (letter: string): Digest => {
    const digest = `sha256:${letter.repeat(64)}`;
    assert.ok(isDigest(digest));
    return digest;
  };

  test("an index in an index leads to the platform's manifest", () =>
    withContent(async (content, store) => {
      const config = {
        mediaType: CONFIG,
        ...(await store({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] } })),
      };
      const manifest = await store({ schemaVersion: 2, mediaType: MANIFEST, config, layers: [] });
      const other = { mediaType: MANIFEST, digest: digestOf("f"), size: 5, platform: { os: "linux", architecture: "arm64" } };
      const inner = await store({
        schemaVersion: 2,
        manifests: [other, { mediaType: MANIFEST, ...manifest, platform: { os: "linux", architecture: "amd64" } }],
      });
      const outer = await store({ schemaVersion: 2, manifests: [{ mediaType: INDEX, ...inner }] });
      const planned = await plan(content, outer.digest);
      assert.ok(planned.state === "complete");
      assert.equal(planned.image.manifestDigest, manifest.digest);
    }));

  test("a root that is not there is what is missing", () =>
    withContent(async (content) => {
      assert.deepEqual(await plan(content, digestOf("a")), {
        state: "incomplete",
        missing: [{ digest: digestOf("a"), kind: "manifest", size: null }],
      });
    }));

  test("a blob that is used twice is missing once", () =>
    withContent(async (content, store) => {
      const layer = { mediaType: LAYER, digest: digestOf("b"), size: 7 };
      const root = await store({ schemaVersion: 2, config: { mediaType: CONFIG, digest: digestOf("c"), size: 9 }, layers: [layer, layer] });
      const planned = await plan(content, root.digest);
      assert.ok(planned.state === "incomplete");
      assert.deepEqual(planned.missing, [
        { digest: digestOf("c"), kind: "blob", size: 9 },
        { digest: digestOf("b"), kind: "blob", size: 7 },
      ]);
    }));

  test("indexes that nest without end are refused", () =>
    withContent(async (content, store) => {
      let inner = await store({ schemaVersion: 2, manifests: [] });
      for (let depth = 0; depth < 8; depth += 1) inner = await store({ schemaVersion: 2, manifests: [{ mediaType: INDEX, ...inner }] });
      await assert.rejects(plan(content, inner.digest), { code: "IMAGE_INVALID", message: /nested/ });
    }));

  test("documents that contradict each other are refused with the reason", () =>
    withContent(async (content, store) => {
      const manifestWith = async (parts: { config?: unknown; configType?: string; layers?: unknown[] }): Promise<Digest> => {
        const config = await store(parts.config ?? { os: "linux", architecture: "amd64", rootfs: { diff_ids: [] } });
        return (await store({ schemaVersion: 2, config: { mediaType: parts.configType ?? CONFIG, ...config }, layers: parts.layers ?? [] }))
          .digest;
      };
      const refused = async (root: Digest, code: string, message: RegExp): Promise<void> =>
        assert.rejects(plan(content, root), { code, message });
      const layer = { mediaType: LAYER, ...(await store("layer")) };
      await refused(await manifestWith({ layers: [layer] }), "IMAGE_INVALID", /1 layers, its config 0/);
      await refused(await manifestWith({ layers: [{ ...layer, size: 1 }] }), "IMAGE_INVALID", /its descriptor says 1/);
      await refused(await manifestWith({ layers: [{ ...layer, mediaType: "text/plain" }] }), "IMAGE_INVALID", /text\/plain/);
      await refused(await manifestWith({ configType: "application/vnd.cncf.helm.config.v1+json" }), "IMAGE_INVALID", /artifact/);
      const arm = { os: "linux", architecture: "arm64", rootfs: { diff_ids: [] } };
      await refused(await manifestWith({ config: arm }), "IMAGE_PLATFORM_MISSING", /arm64/);
      const arch = { ...layer, mediaType: MANIFEST, platform: { os: "linux", architecture: "s390x" } };
      await refused((await store({ schemaVersion: 2, manifests: [arch, arch] })).digest, "IMAGE_PLATFORM_MISSING", /s390x/);
      await assert.rejects(plan(content, (await store({ schemaVersion: 2, manifests: [arch] })).digest, "gone"), {
        code: "IMAGE_NOT_FOUND",
        message: /gone/,
      });
      await refused((await store("not an object")).digest, "IMAGE_INVALID", /object/);
    }));
});
