import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Digest } from "@kiln/protocol";
import type { ImageRecord } from "../images/records.port.ts";
import type { KernelRecord } from "../kernels/records.port.ts";
import { SqliteArtifactStore } from "./artifact-store.ts";
import { Database, declareWrite } from "./database.ts";

const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;

const image = (reference: string, version: string): ImageRecord => ({
  ...{ reference, root: digest(version), rootfsKey: `rootfs-${version}`, createdAt: "now" },
  image: { reference, manifestDigest: digest(version) } as never,
});

const kernel = (key: string, version: string): KernelRecord => ({
  ...{ key, name: "debian-cloud", version, source: "deb", builderDigest: "b", digest: digest("a"), sizeBytes: 1, createdAt: version },
});

const rootfs = (key: string, version: string) => ({
  ...{ key, digest: digest(version), createdAt: "now" },
  fingerprint: { size: 1, ino: "1", mtimeNs: "1", ctimeNs: "1" },
});

test("what was read once is kept, and is what the records say, whatever happens to them", () => {
  const database = new Database(":memory:");
  const store = new SqliteArtifactStore(database);
  const names = ["one", "two"];
  const look = (from: SqliteArtifactStore): unknown => [
    ...names.map((name) => [from.getImage(name), from.getKernel(name), from.getRootfs(`rootfs-${name}`)]),
    ...[from.listImages(), from.listKernels(), from.listRootfs()],
  ];
  const changes: Readonly<Record<string, (name: string, version: string) => unknown>> = {
    putImage: (name, version) => store.putImage(image(name, version)),
    removeImage: (name) => store.getImage(name) !== null && store.removeImage(name),
    removeUnusedImage: (name, version) => store.removeUnusedImage(image(name, version)),
    putRootfs: (name, version) => store.putRootfs(rootfs(`rootfs-${name}`, version)),
    forgetRootfs: (name) => store.forgetRootfs(`rootfs-${name}`),
    removeUnusedRootfs: (name) => store.removeUnusedRootfs(`rootfs-${name}`),
    putKernel: (name, version) => store.putKernel(kernel(name, version)),
    forgetKernel: (name) => store.forgetKernel(name),
  };
  const step = fc.record({
    change: fc.constantFrom(...Object.values(changes)),
    name: fc.constantFrom(...names),
    version: fc.constantFrom("a", "b"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      for (const { change, name, version } of steps) {
        change(name, version);
        assert.deepEqual(look(store), look(new SqliteArtifactStore(database)));
      }
    }),
    { numRuns: 50 },
  );
});

test("I4 a write that fails leaves what was read before", () => {
  const database = new Database(":memory:");
  const store = new SqliteArtifactStore(database);
  store.putImage(image("one", "a"));
  store.putKernel(kernel("k", "1"));
  assert.equal(store.getImage("one")?.root, digest("a"));
  const forbid = declareWrite("test.forbid");
  const full = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
  database.write(forbid, (run) => {
    for (const table of ["images", "kernels"]) {
      for (const when of ["INSERT", "UPDATE", "DELETE"]) run(`CREATE TRIGGER ${table}_${when} BEFORE ${when} ON ${table} ${full}`);
    }
  });
  assert.throws(() => store.putImage(image("one", "b")), /full/);
  assert.throws(() => store.removeImage("one"), /full/);
  assert.throws(() => store.putKernel(kernel("k", "2")), /full/);
  assert.throws(() => store.forgetKernel("k"), /full/);
  assert.deepEqual([store.getImage("one")?.root, store.getKernel("k")?.version], [digest("a"), "1"]);
});
