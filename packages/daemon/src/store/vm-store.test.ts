import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Digest, VmId } from "@kiln/protocol";
import type { VmRecord } from "../vms/record.ts";
import { SqliteArtifactStore } from "./artifact-store.ts";
import { Database, declareWrite } from "./database.ts";
import { SqliteVmStore } from "./vm-store.ts";

const MIB = 2 ** 20;
const ROOM = { diskBytes: 2 ** 50 };

const draft = (id: string, name: string): Omit<VmRecord, "slot"> => ({
  ...{ id: id as VmId, name, state: "created", image: "deb:x", imageDigest: "sha256:0", rootfsKey: "key", rootfsDigest: "sha256:1" },
  ...{ kernelKey: "kernel", kernelName: "debian-cloud", command: ["true"], env: [], workingDir: "/", user: "", hostname: name },
  ...{ stopSignal: "SIGTERM", tty: null, stdin: false, cpus: 1, memoryBytes: 512 * MIB, diskBytes: 1024 * MIB, machineId: "0" },
  ...{
    network: { mode: "none", mac: null },
    labels: {},
    startMode: "auto",
    startPath: null,
    startReason: null,
    ports: [],
    autoRemove: false,
    isBuilder: false,
    createdAt: "2026-01-01T00:00:00.000Z",
    epoch: 0,
    bootId: null,
    startedAt: null,
  },
  ...{ finishedAt: null, exitCode: null, signal: null, error: null, timings: {}, vmm: null, driver: "fake", operation: null },
});

const setUp = () => {
  const database = new Database(":memory:");
  const fingerprint = { size: 1, ino: "1", mtimeNs: "1", ctimeNs: "1" };
  const artifacts = new SqliteArtifactStore(database);
  artifacts.putRootfs({ key: "key", digest: "sha256:1" as Digest, fingerprint, createdAt: "now" });
  const kernel = { name: "debian-cloud", version: "1", source: "x", builderDigest: "b", digest: "sha256:2" as Digest, sizeBytes: 1 };
  artifacts.putKernel({ key: "kernel", ...kernel, createdAt: "now" });
  return { database, vms: new SqliteVmStore(database) };
};

test("I17 a name is reserved once, and freed slots are given again", () => {
  const { vms } = setUp();
  assert.equal(vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM).slot, 1);
  assert.equal(vms.reserve(draft("bbbbbbbbbbbb", "two"), ROOM).slot, 2);
  assert.throws(() => vms.reserve(draft("cccccccccccc", "one"), ROOM), { code: "VM_NAME_TAKEN" });
  vms.remove("aaaaaaaaaaaa" as VmId);
  assert.equal(vms.reserve(draft("cccccccccccc", "three"), ROOM).slot, 1);
});

test("I17 memory is reserved with the start, never oversold, and free again after the end", () => {
  const { vms } = setUp();
  const guard = { from: ["created" as const], capacity: { memoryBytes: 1024 * MIB, cpus: 64 } };
  const ids = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"].map((id) => vms.reserve(draft(id, id), ROOM).id);
  const [one, two, three] = ids;
  assert.ok(one && two && three);
  const claim = (id: VmId, capacity = guard.capacity): string => {
    const claimed = vms.claim(id, { state: "starting" }, { ...guard, capacity });
    return claimed.state === "claimed" ? "claimed" : `${claimed.ever ? "later" : "never"}: ${claimed.error.message}`;
  };
  assert.equal(claim(one), "claimed");
  assert.equal(claim(two), "claimed");
  assert.match(claim(three), /^later: .* needs 512 MiB of memory and 0 MiB are free/);
  assert.match(claim(three, { memoryBytes: 1, cpus: 64 }), /^never: /);
  assert.match(claim(three, { memoryBytes: 4096 * MIB, cpus: 2 }), /^later: .* needs 1 CPUs and 0 are free/);
  vms.change(one, { state: "failed" }, { from: ["starting"] });
  assert.equal(claim(three), "claimed");
  assert.equal(vms.reserved().memoryBytes, 1024 * MIB);
});

test("whoever waits is told when a VM gives back what it held, and only then", () => {
  const { database } = setUp();
  let freed = 0;
  const vms = new SqliteVmStore(database, { onFreed: () => (freed += 1) });
  const { id } = vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  vms.claim(id, { state: "starting" }, { from: ["created"], capacity: { memoryBytes: 1024 * MIB, cpus: 1 } });
  vms.change(id, { state: "running" }, { from: ["starting"] });
  assert.equal(freed, 0);
  vms.change(id, { state: "exited" }, { from: ["running"] });
  assert.equal(freed, 1);
  vms.remove(id);
  assert.equal(freed, 2, "its disk is free too");
});

test("I17 what is held is kept as a sum, and the sum is what the records say, whatever happens to them", () => {
  const { database } = setUp();
  const vms = new SqliteVmStore(database);
  const ids = Array.from({ length: 6 }, (_, index) => String(index).repeat(12) as VmId);
  const capacity = { memoryBytes: 4 * 512 * MIB, cpus: 4 };
  const step = fc.record({ id: fc.constantFrom(...ids), kind: fc.constantFrom("reserve", "claim", "end", "remove") });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      for (const { id, kind } of steps) {
        const state = vms.get(id)?.state;
        if (kind === "reserve" && state === undefined) vms.reserve(draft(id, `vm-${id[0]}`), ROOM);
        if (kind === "claim" && state === "created") vms.claim(id, { state: "starting" }, { from: ["created"], capacity });
        if (kind === "end" && state === "starting") vms.change(id, { state: "created" }, { from: ["starting"] });
        if (kind === "remove") vms.remove(id);
        assert.deepEqual(vms.reserved(), new SqliteVmStore(database).reserved());
        assert.deepEqual(vms.list(), new SqliteVmStore(database).list());
      }
    }),
    { numRuns: 50 },
  );
});

test("I17 disks are promised once: past what was promised together a VM is refused, and nothing of it is left", () => {
  const { vms } = setUp();
  const room = { diskBytes: 2048 * MIB };
  vms.reserve(draft("aaaaaaaaaaaa", "one"), room);
  vms.reserve(draft("bbbbbbbbbbbb", "two"), room);
  assert.throws(() => vms.reserve(draft("cccccccccccc", "three"), room), { code: "CAPACITY_EXCEEDED", message: /disk/ });
  vms.remove("aaaaaaaaaaaa" as VmId);
  assert.equal(vms.reserve(draft("cccccccccccc", "three"), room).slot, 1);
});

test("I18 a change from a state it does not expect is refused with both states", () => {
  const { vms } = setUp();
  const { id } = vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  assert.throws(() => vms.change(id, { state: "running" }, { from: ["starting"] }), {
    code: "VM_STATE_CONFLICT",
    message: /one is created.*starting/,
  });
});

test("I8 a record that lacks a field is refused with the field's name", () => {
  const { vms, database } = setUp();
  const { id } = vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  database.write(declareWrite("test.damage"), (run) =>
    run("UPDATE vms SET record = json_remove(record, '$.rootfsDigest') WHERE id = ?", id),
  );
  assert.throws(() => new SqliteVmStore(database).get(id), { message: /rootfsDigest/ });
});

test("a VM is found by name, id and unique prefix", () => {
  const { vms } = setUp();
  vms.reserve(draft("aaaa11111111", "one"), ROOM);
  vms.reserve(draft("aaab22222222", "two"), ROOM);
  assert.equal(vms.find("two")?.id, "aaab22222222");
  assert.equal(vms.find("aaaa")?.name, "one");
  assert.equal(vms.find("aaa"), null);
  assert.equal(vms.find("aaab22222222")?.name, "two");
});

test("I23 an image that a VM uses is not removed", () => {
  const { database, vms } = setUp();
  const artifacts = new SqliteArtifactStore(database);
  const image = { reference: "deb:x" } as never;
  artifacts.putImage({ reference: "deb:x", image, root: `sha256:${"a".repeat(64)}` as Digest, rootfsKey: "key", createdAt: "now" });
  vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  assert.throws(() => artifacts.removeImage("deb:x"), { code: "IMAGE_IN_USE" });
  vms.remove("aaaaaaaaaaaa" as VmId);
  artifacts.removeImage("deb:x");
  assert.equal(artifacts.removeUnusedRootfs("key"), true);
});

test("I23 the other names of an image that a VM uses may go, the last may not", () => {
  const { database, vms } = setUp();
  const artifacts = new SqliteArtifactStore(database);
  const root = `sha256:${"a".repeat(64)}` as Digest;
  for (const reference of ["one", "two"]) {
    artifacts.putImage({ reference, image: { reference } as never, root, rootfsKey: "key", createdAt: "now" });
  }
  vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  artifacts.removeImage("one");
  assert.throws(() => artifacts.removeImage("two"), { code: "IMAGE_IN_USE" });
});

test("I24 an image is pruned only if it is what was decided about and no VM has come to use it", () => {
  const { database, vms } = setUp();
  const artifacts = new SqliteArtifactStore(database);
  const [root, other] = ["a", "b"].map((letter) => `sha256:${letter.repeat(64)}` as Digest);
  assert.ok(root !== undefined && other !== undefined);
  artifacts.putImage({ reference: "x", image: {} as never, root, rootfsKey: "key", createdAt: "now" });
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root: other }), false, "the name has moved");
  vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM);
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), false, "a VM uses it");
  vms.remove("aaaaaaaaaaaa" as VmId);
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), true);
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), false, "it is gone");
});

test("I23 a kernel that was removed meanwhile is not given to a new VM", () => {
  const { database, vms } = setUp();
  new SqliteArtifactStore(database).forgetKernel("kernel");
  assert.throws(() => vms.reserve(draft("aaaaaaaaaaaa", "one"), ROOM), { code: "KERNEL_NOT_FOUND" });
});
