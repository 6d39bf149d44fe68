/** I9: the same layers and the same key are the same bytes, whatever builds them, where and when. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { runTool } from "@kiln/std/node";
import type { LayerSource } from "../../packages/daemon/src/content/rootfs/index.ts";
import { otherNode } from "../fixtures/other-node.ts";
import type { BuildRequest } from "./build-program.ts";
import { writeLayouts } from "./generated.ts";
import { stacks } from "./stack.ts";
import { buildHere, readLayers } from "./unpack.ts";

const timeout = 300_000;
const signal = AbortSignal.timeout(timeout);
const skip = process.getuid?.() === 0 ? false : "needs root";
const PROGRAM = join(import.meta.dirname, "build-program.ts");
const KEY = "9a".repeat(32);
/** Stacks with everything in them that a layer can say. */
const STACKS = 12;
const SEED = 9;

let home: string;
/** One image's layers after the other, bottom to top; the last has a large file, so that it comes in many chunks. */
let images: (readonly LayerSource[])[];

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const largeLayer = async (): Promise<readonly LayerSource[]> => {
  const files = join(home, "large");
  await mkdir(files);
  await writeFile(join(files, "zeros and noise"), Buffer.concat([randomBytes(3_000_001), Buffer.alloc(5_000_000), randomBytes(1_000_000)]));
  await mkdir(join(files, "many"));
  for (let index = 0; index < 300; index += 1) await writeFile(join(files, "many", `${index}`), `${index}`);
  const path = join(home, "large.tar");
  await runTool("tar", ["-C", files, "-cf", path, "."], { signal });
  return [{ path, mediaType: "tar", diffId: digestOf(await readFile(path)) }];
};

before(async () => {
  if (skip !== false) return;
  home = await mkdtemp(join(tmpdir(), "kiln determinism "));
  images = [];
  for (const [index, stack] of fc.sample(stacks, { seed: SEED, numRuns: STACKS }).entries()) {
    const scratch = join(home, `stack ${index}`);
    await mkdir(scratch);
    const { theirs } = await writeLayouts(
      stack.map((layer) => ({ ...layer, gzip: false })),
      scratch,
      { signal },
    );
    images.push(await readLayers(theirs));
  }
  images.push(await largeLayer());
});
after(async () => {
  if (skip === false) await rm(home, { recursive: true });
});

let targets = 0;
const nextTarget = (): string => join(home, `image ${(targets += 1)}.ext4`);

/** The digest, or what is wrong with the layers: that has to be the same too. */
const buildIn = async (layers: readonly LayerSource[]): Promise<string> => {
  const target = nextTarget();
  try {
    return (await buildHere({ layers, target, key: KEY })).digest;
  } catch (error) {
    return String(error);
  } finally {
    await rm(target, { force: true });
  }
};

interface Host {
  readonly node?: string;
  readonly inThread?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly umask?: string;
  readonly cwd?: string;
}

/** The digests of images that another process builds, one after the other. */
const buildApart = async (all: readonly (readonly LayerSource[])[], host: Host = {}): Promise<string[]> => {
  const requests = all.map((layers): BuildRequest => ({ layers, target: nextTarget(), key: KEY, inThread: host.inThread ?? true }));
  const script = `umask ${host.umask ?? "022"} && exec "$0" "$@"`;
  const { stdout } = await runTool("sh", ["-c", script, host.node ?? process.execPath, PROGRAM, JSON.stringify(requests)], {
    ...{ signal, cwd: host.cwd ?? home, env: { ...process.env, ...host.env } },
  });
  const digests = Buffer.from(stdout).toString().trim().split("\n");
  for (const [index, { target }] of requests.entries()) {
    assert.equal(digestOf(await readFile(target)), digests[index], "the digest is that of the file");
    await rm(target);
  }
  return digests;
};

let first: readonly string[] | null = null;
/** What each image is, built here. */
const expected = async (): Promise<readonly string[]> => {
  const digests: string[] = [];
  for (const layers of first === null ? images : []) digests.push(await buildIn(layers));
  first ??= digests;
  assert.ok(first.filter((digest) => digest.startsWith("sha256:")).length > STACKS / 2, first.join("\n"));
  return first;
};

/** The images that can be built: what is refused is compared in this process only. */
const buildable = async (): Promise<(readonly [readonly LayerSource[], string])[]> => {
  const digests = await expected();
  return images.flatMap((layers, index) => (digests[index]?.startsWith("sha256:") === true ? [[layers, digests[index]] as const] : []));
};

test("I9 a second build of the same layers is the same", { skip, timeout }, async () => {
  for (const [index, digest] of (await expected()).entries()) assert.equal(await buildIn(images[index] ?? []), digest);
});

const ENCODINGS: readonly (readonly [LayerSource["mediaType"], (tar: Buffer) => Uint8Array])[] = [
  ["tar", (tar) => tar],
  ["tar+gzip", (tar) => gzipSync(tar, { level: 1 })],
  ["tar+gzip", (tar) => gzipSync(tar, { level: 9 })],
  ["tar+gzip", (tar) => Buffer.concat([gzipSync(tar.subarray(0, tar.length >> 1)), gzipSync(tar.subarray(tar.length >> 1))])],
  ["tar+zstd", (tar) => zstdCompressSync(tar)],
  ["tar+zstd", (tar) => Buffer.concat([zstdCompressSync(tar.subarray(0, 700)), zstdCompressSync(tar.subarray(700))])],
];

const encoded = async (layers: readonly LayerSource[], pick: (index: number) => number): Promise<LayerSource[]> => {
  const all: LayerSource[] = [];
  for (const [index, layer] of layers.entries()) {
    const [mediaType, encode] = ENCODINGS[pick(index) % ENCODINGS.length] ?? ["tar" as const, (tar: Buffer) => tar];
    const path = join(home, `${index}.encoded`);
    await writeFile(path, encode(await readFile(layer.path)));
    all.push({ ...layer, path, mediaType });
  }
  return all;
};

test("I9 plain, gzip and zstd layers, mixed and in several members, are the same", { skip, timeout }, async () => {
  for (const [index, digest] of (await expected()).entries())
    for (let shift = 0; shift < ENCODINGS.length; shift += 1)
      assert.equal(await buildIn(await encoded(images[index] ?? [], (layer) => layer + shift)), digest);
});

test("I9 layers that arrived in another order, elsewhere and later, are the same", { skip, timeout }, async () => {
  const [layers = [], digest] = (await buildable()).toSorted(([a], [b]) => b.length - a.length)[0] ?? [];
  assert.ok(layers.length > 1);
  const moved = await Promise.all(
    layers.map(async (layer, index) => {
      const path = join(home, `arrived ${layers.length - index}`, "blob");
      await mkdir(dirname(path));
      await copyFile(layer.path, path);
      await utimes(path, index * 1000, index * 1000);
      return { ...layer, path };
    }),
  );
  assert.equal(await buildIn(moved), digest);
});

test(
  "I9 a build in a thread and one in the process itself are the same, wherever and by whom the process is run",
  { skip, timeout },
  async () => {
    const hosts: readonly Host[] = [
      { inThread: true },
      { inThread: false },
      { env: { LC_ALL: "tr_TR.UTF-8", LANG: "tr_TR.UTF-8", TZ: "Pacific/Kiritimati" }, umask: "077", cwd: "/" },
      { env: { LC_ALL: "C", TZ: "America/St_Johns", HOME: "/nonexistent", SOURCE_DATE_EPOCH: "1" }, umask: "000" },
      { env: { UV_THREADPOOL_SIZE: "1", NODE_OPTIONS: "--max-semi-space-size=1" } },
    ];
    const last = (await buildable()).slice(-2);
    const layers = last.map(([one]) => one);
    for (const host of hosts)
      assert.deepEqual(
        await buildApart(layers, host),
        last.map(([, digest]) => digest),
        JSON.stringify(host),
      );
  },
);

test("I9 processes that build at the same time build the same", { skip, timeout }, async () => {
  const [layers = [], digest] = (await buildable()).at(-1) ?? [];
  const digests = await Promise.all([1, 2].map(() => buildApart([layers])));
  assert.deepEqual(digests, [[digest], [digest]]);
});

test("I9 the oldest Node that Kiln runs on and the newest build the same", { skip, timeout }, async () => {
  const node = await otherNode({ signal });
  const { stdout } = await runTool(node, ["--version"], { signal });
  assert.notEqual(Buffer.from(stdout).toString().trim(), process.version);
  const all = await buildable();
  assert.deepEqual(
    await buildApart(
      all.map(([layers]) => layers),
      { node, inThread: false },
    ),
    all.map(([, digest]) => digest),
  );
});
