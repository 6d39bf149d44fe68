import assert from "node:assert/strict";
import { test } from "node:test";
import type { Digest, VmId } from "@kiln/protocol";
import type { VmRecord } from "../vms/record.ts";
import { SqliteArtifactStore } from "./artifact-store.ts";
import { Database } from "./database.ts";
import { SqliteVmStore } from "./vm-store.ts";

const MIB = 2 ** 20;

const draft = (id: string, name: string): Omit<VmRecord, "slot"> => ({
  ...{ id: id as VmId, name, state: "created", image: "deb:x", imageDigest: "sha256:0", rootfsKey: "key", rootfsDigest: "sha256:1" },
  ...{ kernelKey: "kernel", kernelName: "debian-cloud", command: ["true"], env: [], workingDir: "/", user: "", hostname: name },
  ...{ stopSignal: "SIGTERM", tty: null, stdin: false, cpus: 1, memoryBytes: 512 * MIB, diskBytes: 1024 * MIB, machineId: "0" },
  ...{ labels: {}, autoRemove: false, createdAt: "2026-01-01T00:00:00.000Z", epoch: 0, bootId: null, startedAt: null },
  ...{ finishedAt: null, exitCode: null, signal: null, error: null, timings: {}, vmm: null, driver: "fake" },
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
  assert.equal(vms.reserve(draft("aaaaaaaaaaaa", "one")).slot, 1);
  assert.equal(vms.reserve(draft("bbbbbbbbbbbb", "two")).slot, 2);
  assert.throws(() => vms.reserve(draft("cccccccccccc", "one")), { code: "VM_NAME_TAKEN" });
  vms.remove("aaaaaaaaaaaa" as VmId);
  assert.equal(vms.reserve(draft("cccccccccccc", "three")).slot, 1);
});

test("I17 memory is reserved with the start, never oversold, and free again after the end", () => {
  const { vms } = setUp();
  const guard = { from: ["created" as const], capacityBytes: 1024 * MIB };
  const ids = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"].map((id) => vms.reserve(draft(id, id)).id);
  const [one, two, three] = ids;
  assert.ok(one && two && three);
  vms.change(one, { state: "starting" }, guard);
  vms.change(two, { state: "starting" }, guard);
  assert.throws(() => vms.change(three, { state: "starting" }, guard), { code: "CAPACITY_EXCEEDED" });
  vms.change(one, { state: "failed" }, { from: ["starting"] });
  vms.change(three, { state: "starting" }, guard);
  assert.equal(vms.reservedMemoryBytes(), 1024 * MIB);
});

test("I18 a change from a state it does not expect is refused with both states", () => {
  const { vms } = setUp();
  const { id } = vms.reserve(draft("aaaaaaaaaaaa", "one"));
  assert.throws(() => vms.change(id, { state: "running" }, { from: ["starting"] }), {
    code: "VM_STATE_CONFLICT",
    message: /one is created.*starting/,
  });
});

test("I8 a record that lacks a field is refused with the field's name", () => {
  const { vms, database } = setUp();
  const { id } = vms.reserve(draft("aaaaaaaaaaaa", "one"));
  database.run("UPDATE vms SET record = json_remove(record, '$.rootfsDigest') WHERE id = ?", id);
  assert.throws(() => vms.get(id), { message: /rootfsDigest/ });
});

test("a VM is found by name, id and unique prefix", () => {
  const { vms } = setUp();
  vms.reserve(draft("aaaa11111111", "one"));
  vms.reserve(draft("aaab22222222", "two"));
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
  vms.reserve(draft("aaaaaaaaaaaa", "one"));
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
  vms.reserve(draft("aaaaaaaaaaaa", "one"));
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
  vms.reserve(draft("aaaaaaaaaaaa", "one"));
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), false, "a VM uses it");
  vms.remove("aaaaaaaaaaaa" as VmId);
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), true);
  assert.equal(artifacts.removeUnusedImage({ reference: "x", root }), false, "it is gone");
});

test("I23 a kernel that was removed meanwhile is not given to a new VM", () => {
  const { database, vms } = setUp();
  new SqliteArtifactStore(database).forgetKernel("kernel");
  assert.throws(() => vms.reserve(draft("aaaaaaaaaaaa", "one")), { code: "KERNEL_NOT_FOUND" });
});
