/** Layers of very many entries, and what they take to build. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { sealHeader, tarHeader } from "../../../../formats/src/tar/tar-writer.fixture.ts";
import type { RootfsLimits } from "./limits.ts";

const HEADERS_A_PIECE = 1000;
export const FILES_A_DIRECTORY = 1000;

/** A tar of so many empty files in directories that nobody names, piece by piece. */
export function* tarOfFiles(entries: number): Generator<Buffer> {
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

const BUILD = `
  const { buildRootfs } = await import(process.argv[1]);
  const { path, diffId, target, limits } = JSON.parse(process.argv[2]);
  const layers = [{ path, mediaType: "tar+gzip", diffId }];
  const building = buildRootfs({ layers, target, key: "5f".repeat(32), limits }, { signal: new AbortController().signal });
  const [result] = await Promise.allSettled([building]);
  const outcome = result.status === "fulfilled" ? { inodes: result.value.inodes } : { code: result.reason.code, message: result.reason.message };
  console.log(JSON.stringify({ ...outcome, peakMib: Math.round(process.resourceUsage().maxRSS / 1024) }));
`;

export interface Outcome {
  readonly inodes?: number;
  readonly code?: string;
  readonly message?: string;
  readonly peakMib: number;
}

export interface BuildOptions {
  readonly limits?: Partial<RootfsLimits>;
  /** Looks at the image. */
  readonly look?: (target: string) => void;
}

/** Builds a layer in a process of its own, so that its memory is its own, and says how it ended. Nothing is left of a build that failed. */
export const buildApart = async (tar: () => Iterable<Buffer>, options: BuildOptions = {}): Promise<Outcome> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln many "));
  try {
    const path = join(scratch, "layer");
    const staging = await mkdtemp(join(scratch, "staging-"));
    const target = join(staging, "rootfs");
    const job = { path, target, diffId: await writeLayer(path, tar), limits: options.limits ?? {} };
    const program = ["--input-type=module", "-e", BUILD, import.meta.resolve("./index.ts"), JSON.stringify(job)];
    const { stdout, stderr, status } = spawnSync(process.execPath, program, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const outcome = JSON.parse(stdout) as Outcome;
    if (outcome.code === undefined) options.look?.(target);
    else assert.deepEqual(await readdir(staging), [], "nothing is left");
    return outcome;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};
