import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { lstatSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { buildTar } from "../tar/tar-writer.fixture.ts";
import { readHashSeed, hashName } from "./disk/name-hash.ts";
import { IDENTITY, assertClean, buildImage, skipMount, withMount, withScratch } from "./image.fixture.ts";

const SEED = readHashSeed(IDENTITY.hashSeed);

/** What debugfs answers, without its greeting. */
const debugfs = (request: string, ...image: readonly string[]): string => {
  const { stdout, stderr } = spawnSync("debugfs", ["-R", request, ...image], { encoding: "latin1", maxBuffer: 1 << 28 });
  return stdout + stderr.replace(/^debugfs .*\n/, "");
};

/** Builds `d` with files of these names; the kernel lists exactly them and finds each. Returns what debugfs says of the index. */
const buildDirectory = (names: readonly string[]): string =>
  withScratch((scratch) => {
    const image = join(scratch, "image");
    buildImage(image, [buildTar(names.map((name) => ({ path: `d/${name}` })))]);
    assertClean(image);
    withMount(image, "ro", (mounted) => {
      const listed = readdirSync(join(mounted, "d"), { encoding: "buffer" }).map((name) => name.toString("latin1"));
      assert.deepEqual(listed.sort(), [...names].sort());
      const prefix = Buffer.from(`${mounted}/d/`);
      for (const name of names) assert.ok(lstatSync(Buffer.concat([prefix, Buffer.from(name, "latin1")])).isFile());
      assert.equal(lstatSync(join(mounted, "d", "not there"), { throwIfNoEntry: false }), undefined);
    });
    return debugfs("htree_dump d", image);
  });

const numbered = (count: number, name: (index: number) => string): string[] => Array.from({ length: count }, (_, index) => name(index));

test("the hash of a name is e2fsprogs', whatever its length and bytes", () => {
  const zeroSeed = readHashSeed(Buffer.alloc(16));
  for (const name of ["a", "four", "fiver", "x".repeat(31), "x".repeat(32), "x".repeat(33), "é".repeat(9), "y".repeat(255)]) {
    const bytes = Buffer.from(name).toString("latin1");
    const answer = debugfs(`dx_hash -h half_md4 ${name}`);
    assert.ok(answer.includes(`is 0x${hashName(bytes, zeroSeed).toString(16)} `), answer);
  }
});

test("a directory of 50,000 entries has an index, and the kernel finds each name by it", { skip: skipMount }, () => {
  const dump = buildDirectory(numbered(50_000, (index) => `entry-${index}.${"js".repeat(index % 9)}`));
  assert.match(dump, /Indirect levels: 0/);
});

test("long names and bytes that are no UTF-8 are found in an index of two levels", { skip: skipMount }, () => {
  const dump = buildDirectory(numbered(12_000, (index) => `${"\xff\x80\xe9n".repeat(62)}${String(index).padStart(7, "0")}`));
  assert.match(dump, /Indirect levels: 1/);
});

test("I9: an index is the same, in whatever order the names come", () => {
  const names = numbered(2000, (index) => `name ${index}`);
  const [forth, back] = [names, names.toReversed()].map((order) =>
    withScratch((scratch) => {
      buildImage(join(scratch, "image"), [buildTar(order.map((name) => ({ path: `d/${name}` })))]);
      return readFileSync(join(scratch, "image"));
    }),
  );
  assert.ok(back !== undefined && forth?.equals(back));
});

test("a directory has an index as soon as it has more than two blocks", { skip: skipMount }, () => {
  const long = (index: number): string => `${"n".repeat(240)}${String(index).padStart(4, "0")}`;
  assert.match(buildDirectory(numbered(32, long)), /Not a hash-indexed/);
  assert.match(buildDirectory(numbered(33, long)), /Indirect levels: 0/);
});

/** Two names with the same hash, and enough with smaller ones to fill blocks up to between the two. */
const collisionAtBlockEnd = (): { names: string[]; twins: readonly [string, string] } => {
  const candidates = numbered(400_000, (index) => `c${String(index).padStart(11, "0")}`);
  const seen = new Map<number, string>();
  for (const name of candidates) {
    const hash = hashName(name, SEED);
    const twin = seen.get(hash);
    if (twin === undefined) {
      seen.set(hash, name);
      continue;
    }
    const below = [...seen].filter(([other]) => other < hash).map(([, name]) => name);
    const perBlock = Math.floor(4084 / 20);
    if (below.length >= 4 * perBlock) return { names: [...below.slice(0, 4 * perBlock - 1), twin, name], twins: [twin, name] };
  }
  throw new Error("no two names have the same hash");
};

test("names of the same hash on both sides of a block's end are found", { skip: skipMount }, () => {
  const { names, twins } = collisionAtBlockEnd();
  assert.equal(hashName(twins[0], SEED), hashName(twins[1], SEED));
  const odd = (hashName(twins[0], SEED) + 1).toString(16);
  assert.match(buildDirectory(names), new RegExp(`Hash 0x0*${odd}`), "the index says that the block before goes on");
});
