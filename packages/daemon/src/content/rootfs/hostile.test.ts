import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { gunzipSync, gzipSync, zstdCompressSync, constants } from "node:zlib";
import { KilnError } from "@kiln/protocol/errors";
import type { ErrorCode } from "@kiln/protocol/errors";
import { buildTar, type TarSpec } from "../../../../formats/src/tar/tar-writer.fixture.ts";
import { buildRootfs, type LayerSource, type RootfsLimits } from "./index.ts";
import { describeFailure } from "./failure.ts";
import { readLayer } from "./layer-stream.ts";
import { READ_LIMITS } from "./limits.ts";

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

interface Blob {
  readonly bytes: Uint8Array;
  readonly mediaType?: LayerSource["mediaType"];
  /** What the bytes unpack to; where there is none, they are a tar. */
  readonly tar?: Uint8Array;
}

const tarBlob = (...specs: readonly TarSpec[]): Blob => ({ bytes: buildTar(specs) });

/** Builds in a staging directory of its own, and says what is left there. */
const build = async (blobs: readonly Blob[], limits: Partial<RootfsLimits> = {}) => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln hostile "));
  try {
    const layers: LayerSource[] = [];
    for (const [index, { bytes, mediaType = "tar", tar = bytes }] of blobs.entries()) {
      const path = join(scratch, `blob-${index}`);
      await writeFile(path, bytes);
      layers.push({ path, mediaType, diffId: sha256(tar) });
    }
    const staging = await mkdtemp(join(scratch, "staging-"));
    const target = join(staging, "rootfs");
    const request = { layers, target, key: "5f".repeat(32), limits };
    const [result] = await Promise.allSettled([buildRootfs(request, { signal: new AbortController().signal })]);
    const left = await readdir(staging);
    return { result, left, sizeBytes: left.length === 0 ? 0 : (await stat(target)).size };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

interface Refusal {
  readonly code: ErrorCode;
  readonly words: RegExp;
  readonly limits?: Partial<RootfsLimits>;
}

/** It fails with the code and these words, and nothing is left in staging. */
const refused = async (blobs: readonly Blob[], { code, words, limits = {} }: Refusal): Promise<void> => {
  const { result, left } = await build(blobs, limits);
  assert.ok(result.status === "rejected" && result.reason instanceof KilnError, `${words.source}: it fails with a KilnError`);
  assert.equal(result.reason.code, code, result.reason.message);
  assert.match(result.reason.message, words);
  assert.deepEqual(left, [], "nothing is left");
};

const digestOf = async (blobs: readonly Blob[]): Promise<string> => {
  const { result } = await build(blobs);
  assert.ok(result.status === "fulfilled", result.status === "rejected" ? String(result.reason) : "");
  return result.value.digest;
};

const file = (path: string, content = "x"): TarSpec => ({ path, content });
const link = (path: string, target: string): TarSpec => ({ path, type: "hardlink", link: target });
const symlink = (path: string, target: string): TarSpec => ({ path, type: "symlink", link: target });
const directory = (path: string): TarSpec => ({ path, type: "directory" });
/** One directory more than the kernel's longest path has, where no path in the archive is too long. */
const tooDeep = (): TarSpec[] => [
  file(`${"d/".repeat(2000)}f`),
  symlink("s", "d/".repeat(2000)),
  ...Array.from({ length: 60 }, (_, index) => directory(`s/${"e/".repeat(index + 1)}`)),
];

const LAYERS: readonly (readonly [what: string, layers: readonly (readonly TarSpec[])[], words: RegExp])[] = [
  ["a path that climbs", [[file("../../etc/passwd")]], /climbs/],
  ["a path that climbs behind a name", [[file("a/../../etc/passwd")]], /climbs/],
  ["a hard link that climbs", [[link("a", "../../etc/passwd")]], /climbs/],
  ["a hard link to an absolute path that the image does not have", [[link("a", "/etc/passwd")]], /no target/],
  ["a hard link to a later entry", [[link("a", "b"), file("b")]], /no target/],
  ["a hard link to an entry of a later layer", [[link("a", "b")], [file("b")]], /no target/],
  ["a hard link to itself", [[link("a", "a")]], /no target/],
  ["a hard link to itself, where there was a file", [[file("a"), link("a", "a")]], /no target/],
  ["a hard link to itself, where a lower layer has a file", [[file("a")], [link("./a", "a")]], /no target/],
  ["a hard link to itself by way of a symlink", [[file("d/a"), symlink("s", "d"), link("d/a", "s/a")]], /no target/],
  ["a hard link out of the image by way of a symlink", [[symlink("s", "../../../etc"), link("a", "s/passwd")]], /no target/],
  ["a hard link to a directory", [[directory("d"), link("a", "d")]], /directory/],
  ["a hard link to a directory by way of a symlink", [[directory("d/e"), symlink("s", "d"), link("a", "s/e")]], /directory/],
  ["a hard link to what a lower layer had", [[file("a")], [{ path: ".wh.a" }, link("b", "a")]], /no target/],
  ["symlinks that go round in circles", [[symlink("a", "b"), symlink("b", "a"), file("a/f")]], /circles/],
  ["symlinks that an upper layer lets go round in circles", [[symlink("a", "b")], [symlink("b", "a")], [file("a/f")]], /circles/],
  ["a name of 256 bytes", [[file("n".repeat(256))]], /255 bytes/],
  ["a path of more than 4,096 bytes", [[file(`${"p/".repeat(2048)}f`)]], /4096 bytes/],
  ["a directory deeper than a path can lead", [tooDeep()], /deep/],
  ["a symlink of 4,096 bytes", [[symlink("s", "t".repeat(4096))]], /4096 bytes/],
  ["a file in the place of the root", [[symlink("./", "x")]], /root/],
];

suite("a hostile layer is LAYER_INVALID and leaves nothing", () => {
  for (const [what, layers, words] of LAYERS) {
    test(what, () =>
      refused(
        layers.map((specs) => tarBlob(...specs)),
        { code: "LAYER_INVALID", words },
      ),
    );
  }
});

/** A frame of RFC 8878 with one raw block, and a window of 2^log bytes. */
const zstdFrame = (content: Uint8Array, windowLog: number, dictionary = 0): Buffer => {
  const block = Buffer.alloc(3);
  block.writeUIntLE((content.length << 3) | 1, 0, 3);
  const head = [0x28, 0xb5, 0x2f, 0xfd, dictionary === 0 ? 0 : 1, (windowLog - 10) << 3, ...(dictionary === 0 ? [] : [dictionary])];
  return Buffer.concat([Buffer.from(head), block, content]);
};

const skippableFrame = (bytes: number): Buffer => {
  const head = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  head.writeUInt32LE(bytes, 4);
  return Buffer.concat([head, Buffer.alloc(bytes, 0xaa)]);
};

const TAR = buildTar([file("a", "content"), directory("d"), file("d/b", "more")]);
const [FRONT, BACK] = [TAR.subarray(0, 700), TAR.subarray(700)];
const gzipBlob = (...parts: readonly Uint8Array[]): Blob => ({ bytes: Buffer.concat(parts), mediaType: "tar+gzip", tar: TAR });
const zstdBlob = (...parts: readonly Uint8Array[]): Blob => ({ bytes: Buffer.concat(parts), mediaType: "tar+zstd", tar: TAR });

suite("gzip and zstd", () => {
  test("I9 members and frames one behind the other, and frames that are skipped, are the layer in one piece", async () => {
    const named = gzipSync(FRONT);
    named[3] = 0x08; // FNAME: a name of one letter follows the header
    const withName = Buffer.concat([named.subarray(0, 10), Buffer.from("n\0"), named.subarray(10)]);
    const accepted = [
      gzipBlob(gzipSync(FRONT), gzipSync(BACK)),
      gzipBlob(withName, gzipSync(""), gzipSync(BACK)),
      gzipBlob(...Array.from(TAR, (byte) => gzipSync(Buffer.of(byte), { level: 0 }))),
      zstdBlob(zstdCompressSync(FRONT), zstdCompressSync(BACK)),
      zstdBlob(
        skippableFrame(5),
        zstdCompressSync(FRONT),
        skippableFrame(100_000),
        skippableFrame(0),
        zstdCompressSync(BACK),
        skippableFrame(1),
      ),
      zstdBlob(zstdFrame(FRONT, 10), zstdFrame(BACK, READ_LIMITS.zstdWindowLog)),
    ];
    const expected = await digestOf([{ bytes: TAR }]);
    for (const [index, blob] of accepted.entries()) assert.equal(await digestOf([blob]), expected, `form ${index}`);
  });

  const whole = gzipSync(TAR);
  const damaged = (at: number): Buffer => {
    const bytes = Buffer.from(whole);
    bytes[bytes.length + at] = (bytes.at(at) ?? 0) ^ 1;
    return bytes;
  };
  const frame = zstdCompressSync(TAR, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  const cases: readonly (readonly [string, Blob, RegExp])[] = [
    ["garbage behind gzip", gzipBlob(whole, Buffer.from("garbage")), /header check/],
    ["zeros behind gzip", gzipBlob(whole, Buffer.alloc(512)), /bytes follow/],
    ["zeros and a member behind gzip", gzipBlob(gzipSync(FRONT), Buffer.alloc(3), gzipSync(BACK)), /bytes follow/],
    ["half a member behind gzip", gzipBlob(gzipSync(FRONT), gzipSync(BACK).subarray(0, 15)), /end of file/],
    ["a gzip with a wrong checksum", gzipBlob(damaged(-7)), /data check/],
    ["a gzip with a wrong length", gzipBlob(damaged(-1)), /length check/],
    ["garbage behind zstd", zstdBlob(frame, Buffer.from("garbage!")), /bytes follow/],
    ["zeros behind zstd", zstdBlob(frame, Buffer.alloc(8)), /bytes follow/],
    ["half a frame behind zstd", zstdBlob(zstdCompressSync(FRONT), zstdCompressSync(BACK).subarray(0, 9)), /end of file/],
    ["half a frame that is skipped", zstdBlob(frame, skippableFrame(100).subarray(0, 50)), /end of file/],
    ["a zstd with a wrong checksum", zstdBlob(Buffer.concat([frame.subarray(0, -1), Buffer.of((frame.at(-1) ?? 0) ^ 1)])), /./],
    ["a zstd window beyond the limit", zstdBlob(zstdFrame(TAR, READ_LIMITS.zstdWindowLog + 1)), /[Mm]emory|[Ww]indow/],
    ["the largest zstd window there is", zstdBlob(zstdFrame(TAR, 41)), /[Mm]emory|[Ww]indow/],
    ["a zstd dictionary", zstdBlob(zstdFrame(TAR, 20, 7)), /[Dd]ictionary/],
    ["gzip that is called zstd", { ...zstdBlob(whole), tar: TAR }, /./],
    ["zstd that is called gzip", { ...gzipBlob(frame), tar: TAR }, /./],
  ];
  for (const [what, blob, words] of cases) test(`${what} is LAYER_INVALID`, () => refused([blob], { code: "LAYER_INVALID", words }));

  test("what follows a gzip is refused wherever the pieces end in which it is read", async () => {
    const tar = buildTar([file("random", randomBytes(READ_LIMITS.fileBytes - 900).toString("latin1"))]);
    const member = gzipSync(tar, { level: 0 });
    for (const zeros of [1, READ_LIMITS.fileBytes, 3 * READ_LIMITS.fileBytes - (member.length % READ_LIMITS.fileBytes)]) {
      const bytes = Buffer.concat([member, Buffer.alloc(zeros), gzipSync(BACK)]);
      await refused([{ bytes, mediaType: "tar+gzip", tar }], { code: "LAYER_INVALID", words: /bytes follow|header check/ });
    }
  });

  test("every prefix of a gzip and of a zstd is refused", async () => {
    const directory = await mkdtemp(join(tmpdir(), "kiln prefix "));
    try {
      const path = join(directory, "layer");
      for (const [bytes, mediaType] of [
        [Buffer.concat([gzipSync(FRONT), gzipSync(BACK)]), "tar+gzip"],
        [Buffer.concat([zstdCompressSync(FRONT), skippableFrame(9), zstdCompressSync(BACK)]), "tar+zstd"],
      ] as const) {
        for (let at = 0; at < bytes.length; at += 1) {
          await writeFile(path, bytes.subarray(0, at));
          const budget = { unpackedBytes: 0, maxBytes: 1 << 20 };
          const expansion = { maxRatio: 100, freeBytes: 1 << 20 };
          const reading = readLayer({ path, mediaType, diffId: sha256(TAR) }, { budget, expansion, write: () => {}, onRead: () => {} });
          const [result] = await Promise.allSettled([reading]);
          assert.ok(result.status === "rejected", `${at} of ${bytes.length} bytes`);
          assert.equal(describeFailure(result.reason).kind, "layer", String(result.reason));
        }
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

suite("a bomb is ROOTFS_TOO_LARGE and leaves nothing", () => {
  const zeros = (bytes: number): Blob => {
    const packed = gzipSync(buildTar([{ path: "zeros", content: Buffer.alloc(bytes) }]));
    return { bytes: packed, mediaType: "tar+gzip", tar: gunzipSync(packed) };
  };

  test("by what it unpacks to, over all layers", async () => {
    const limits = { maxUnpackedBytes: 3_000_000 };
    await refused([zeros(4_000_000)], { code: "ROOTFS_TOO_LARGE", words: /more than 3000000 bytes/, limits });
    await refused([zeros(2_000_000), zeros(2_000_000)], { code: "ROOTFS_TOO_LARGE", words: /more than 3000000 bytes/, limits });
    assert.equal((await build([zeros(2_000_000)], limits)).result.status, "fulfilled");
  });

  test("by how many times its size it unpacks to, from a size on that only a bomb has", async () => {
    const limits = { maxUnpackRatio: 100, freeUnpackBytes: 3_000_000 };
    const words = /bytes unpack to more than 3000000 bytes, and 100 times as many/;
    await refused([zeros(4_000_000)], { code: "ROOTFS_TOO_LARGE", words, limits });
    assert.equal((await build([zeros(2_000_000), zeros(2_000_000)], limits)).result.status, "fulfilled", "each layer is free to so much");
    assert.equal((await build([zeros(4_000_000)], { ...limits, maxUnpackRatio: 1100 })).result.status, "fulfilled");
    const noise = { path: "noise", content: randomBytes(4_000_000) };
    assert.equal((await build([tarBlob(noise)], limits)).result.status, "fulfilled");
  });

  test("by its number of entries, by those that no layer names, and by what they take in memory", async () => {
    const many = tarBlob(...Array.from({ length: 100 }, (_, index) => directory(`d${index}`)));
    await refused([many], { code: "ROOTFS_TOO_LARGE", words: /more than 99 entries/, limits: { maxEntries: 99 } });
    await refused([tarBlob(file("a/b/c/d/e"))], { code: "ROOTFS_TOO_LARGE", words: /do not name/, limits: { maxEntries: 4 } });
    await refused([many], { code: "ROOTFS_TOO_LARGE", words: /take more than/, limits: { maxMetadataBytes: 10_000 } });
  });

  test("a sparse file of 8 EiB is refused, and one of 15 TiB takes no room", async () => {
    const sparse = (bytes: bigint): Blob => tarBlob({ path: "s", pax: { "GNU.sparse.map": "", "GNU.sparse.size": String(bytes) } });
    await refused([sparse(2n ** 53n - 1n)], { code: "LAYER_INVALID", words: /larger than a file can be/ });
    const { result, sizeBytes } = await build([sparse(15n * 2n ** 40n)]);
    assert.equal(result.status, "fulfilled");
    assert.ok(sizeBytes < 2 ** 20);
  });
});
