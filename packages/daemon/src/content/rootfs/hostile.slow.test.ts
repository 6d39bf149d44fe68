import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { suite, test } from "node:test";
import { createGzip } from "node:zlib";
import { buildTar, sealHeader, tarHeader, type TarSpec } from "../../../../formats/src/tar/tar-writer.fixture.ts";
import { ROOTFS_LIMITS } from "./limits.ts";

const HEADERS_A_PIECE = 1000;
const FILES_A_DIRECTORY = 1000;

/** So many empty files in directories that nobody names, piece by piece. */
function* tarOf(entries: number): Generator<Buffer> {
  const header = tarHeader({ name: "", flag: "0", size: 0 });
  for (let at = 0; at < entries; at += HEADERS_A_PIECE) {
    const headers: Buffer[] = [];
    for (let entry = at; entry < Math.min(entries, at + HEADERS_A_PIECE); entry += 1) {
      header.fill(0, 0, 100);
      header.write(`d${Math.floor(entry / FILES_A_DIRECTORY)}/f${entry}`);
      headers.push(Buffer.from(sealHeader(header)));
    }
    yield Buffer.concat(headers);
  }
  yield Buffer.alloc(1024);
}

/** Writes it packed; returns its diff id. */
const writeLayer = async (path: string, tar: () => Iterable<Buffer>): Promise<string> => {
  const hash = createHash("sha256");
  const hashed = function* (): Generator<Buffer> {
    for (const piece of tar()) {
      hash.update(piece);
      yield piece;
    }
  };
  await pipeline(Readable.from(hashed()), createGzip({ level: 1 }), createWriteStream(path));
  return `sha256:${hash.digest("hex")}`;
};

/** Builds in a process of its own, so that its memory is its own, and says how it ended. */
const BUILD = `
  const { buildRootfs } = await import(process.argv[1]);
  const { path, diffId, target } = JSON.parse(process.argv[2]);
  const layers = [{ path, mediaType: "tar+gzip", diffId }];
  const building = buildRootfs({ layers, target, key: "5f".repeat(32) }, { signal: new AbortController().signal });
  const [result] = await Promise.allSettled([building]);
  const outcome = result.status === "fulfilled" ? { inodes: result.value.inodes } : { code: result.reason.code, message: result.reason.message };
  console.log(JSON.stringify({ ...outcome, peakMib: Math.round(process.resourceUsage().maxRSS / 1024) }));
`;

interface Outcome {
  readonly inodes?: number;
  readonly code?: string;
  readonly message?: string;
  readonly peakMib: number;
}

const buildWith = async (tar: () => Iterable<Buffer>, look: (target: string) => void = () => undefined): Promise<Outcome> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln many "));
  try {
    const path = join(scratch, "layer");
    const staging = await mkdtemp(join(scratch, "staging-"));
    const target = join(staging, "rootfs");
    const job = { path, target, diffId: await writeLayer(path, tar) };
    const program = ["--input-type=module", "-e", BUILD, import.meta.resolve("./index.ts"), JSON.stringify(job)];
    const { stdout, stderr, status } = spawnSync(process.execPath, program, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const outcome = JSON.parse(stdout) as Outcome;
    if (outcome.code === undefined) look(target);
    else assert.deepEqual(await readdir(staging), [], "nothing is left");
    return outcome;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

suite("millions of entries", () => {
  test("two million become a clean image in less memory than the builder may have", { timeout: 600_000 }, async () => {
    const files = 2_000_000;
    const outcome = await buildWith(
      () => tarOf(files),
      (target) => assert.equal(spawnSync("e2fsck", ["-fn", target]).status, 0, "e2fsck"),
    );
    assert.equal(outcome.inodes, files + files / FILES_A_DIRECTORY + 1, JSON.stringify(outcome));
    assert.ok(outcome.peakMib < 1000, `${outcome.peakMib} MiB`);
  });

  test("one entry more than the limit is a typed error in bounded memory", { timeout: 600_000 }, async () => {
    const outcome = await buildWith(() => tarOf(ROOTFS_LIMITS.maxEntries + 1));
    assert.equal(outcome.code, "ROOTFS_TOO_LARGE");
    assert.match(outcome.message ?? "", /more than 4000000 entries/);
    assert.ok(outcome.peakMib < 1000, `${outcome.peakMib} MiB`);
  });

  test("symlinks that make each path a long way are a typed error, and soon", { timeout: 600_000 }, async () => {
    const symlink = (path: string, link: string): TarSpec => ({ path, type: "symlink", link });
    const links = Array.from({ length: 39 }, (_, index) => symlink(`l${index + 1}`, `${"./d/../".repeat(500)}l${index}`));
    const files = Array.from({ length: 20_000 }, (_, index): TarSpec => ({ path: `l39/f${index}` }));
    const tar = buildTar([{ path: "d", type: "directory" }, symlink("l0", "d"), ...links, ...files]);
    const outcome = await buildWith(() => [tar]);
    assert.equal(outcome.code, "LAYER_INVALID");
    assert.match(outcome.message ?? "", /symlinks add more than 100000000 names/);
  });
});
