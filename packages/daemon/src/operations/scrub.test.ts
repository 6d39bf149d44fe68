import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { KilnEvent, ScrubReport } from "@kiln/protocol";
import type { KernelSets } from "../pipeline/artifacts.port.ts";
import type { VmRecord } from "../vms/record.ts";
import { prepareFiles } from "./boot-vm.ts";
import type { Core } from "./core.ts";
import { beginScrub, checkArtifact, listArtifacts } from "./scrub.ts";
import { scrubSlowly } from "./scrub-slowly.ts";
import { createRealArtifacts, flipByte, type RealArtifacts } from "./testing/real-artifacts.ts";

const NOBODY = { idempotencyKey: null, caller: "" };

const scrub = async ({ core, fake }: RealArtifacts): Promise<ScrubReport> => {
  const { report, error } = await fake.ended(beginScrub(core, NOBODY));
  assert.equal(error, null);
  assert.equal(report?.kind, "scrub");
  return report;
};

const damaged = ({ artifacts }: ScrubReport) =>
  artifacts.filter(({ state }) => state !== "whole").map(({ kind, id, state }) => [kind, id, state]);

const eventsOf = (core: Core, type: KilnEvent["type"]): KilnEvent[] =>
  core.events.read({ after: 0, limit: 1000 }).filter((event) => event.type === type);

test("I7 a scrub reads all there is, and what is whole stays as it is", async () => {
  await using real = await createRealArtifacts();
  const report = await scrub(real);
  assert.deepEqual(damaged(report), []);
  assert.deepEqual(report.artifacts.map(({ kind }) => kind).toSorted(), ["blob", "blob", "blob", "blob", "rootfs"]);
  assert.equal(report.checked, report.artifacts.length);
  assert.equal(
    report.bytes,
    report.artifacts.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  assert.deepEqual(eventsOf(real.core, "artifact.damaged"), []);
});

test("I7 I14 a scrub finds a rootfs with other bytes of the same size and mtime, and builds it again in its place; who has it open keeps it", async () => {
  await using real = await createRealArtifacts();
  const { core, image, rootfsPath } = real;
  const good = await readFile(rootfsPath);
  await flipByte(rootfsPath, 66 * 4096);
  await using held = await open(rootfsPath);
  const report = await scrub(real);
  assert.deepEqual([damaged(report), report.unrepaired], [[["rootfs", image.rootfsKey, "damaged"]], 0]);
  assert.ok((await readFile(rootfsPath)).equals(good));
  assert.ok(!(await held.readFile()).equals(good));
  const [event] = eventsOf(core, "artifact.damaged");
  assert.deepEqual([event?.subject, event?.data["kind"], event?.data["state"]], [image.rootfsKey, "rootfs", "damaged"]);
  assert.equal(eventsOf(core, "drift.repaired").length, 1);
  assert.deepEqual(damaged(await scrub(real)), []);
});

test("I7 a blob that a scrub finds damaged goes, so that it is missing and can be sent again; a rootfs that cannot be built again is not served", async () => {
  await using real = await createRealArtifacts();
  const { core, image, rootfsPath, layerPath } = real;
  const layer = image.image.layers[0]?.digest;
  await flipByte(layerPath(0), 40);
  const first = await scrub(real);
  assert.deepEqual([damaged(first), first.unrepaired], [[["blob", layer, "damaged"]], 1]);
  assert.ok(!existsSync(layerPath(0)));
  await flipByte(rootfsPath, 66 * 4096);
  const report = await scrub(real);
  assert.deepEqual(damaged(report), [["rootfs", image.rootfsKey, "damaged"]]);
  assert.equal(report.unrepaired, 1);
  assert.match(report.artifacts.find(({ kind }) => kind === "rootfs")?.repair ?? "", /kiln image rebuild/);
  assert.equal(core.images.getRootfs(image.rootfsKey), null);
  assert.ok(!existsSync(rootfsPath), "no record, no file");
});

/** As a sweep looks at a rootfs, and any later reader at its record. */
const readAnew = ({ core, image }: RealArtifacts): void => {
  const { rootfsKey } = image;
  const record = core.images.getRootfs(rootfsKey);
  assert.ok(record !== null && !core.images.removeUnusedRootfs(rootfsKey), "it is in use");
  core.images.putRootfs({ ...record });
};

test("I7 a damaged rootfs is found even if its record is read anew while the file is", { timeout: 60_000 }, async () => {
  await using real = await createRealArtifacts();
  const { core, image, rootfsPath } = real;
  const { signal } = new AbortController();
  const good = await readFile(rootfsPath);
  await flipByte(rootfsPath, 66 * 4096);
  const artifact = (await listArtifacts(core)).find(({ kind }) => kind === "rootfs");
  assert.ok(artifact !== undefined);
  let pieces = 0;
  const onRead = (): void => {
    assert.ok((pieces += 1) < 100, "it is read over and over");
    readAnew(real);
  };
  assert.equal((await checkArtifact(core, artifact, { signal, onRead }))?.state, "damaged");
  assert.ok((await readFile(rootfsPath)).equals(good));

  await flipByte(rootfsPath, 66 * 4096);
  const ensured = core.pipeline.ensureRootfs(image, { signal });
  readAnew(real);
  await ensured;
  assert.ok((await readFile(rootfsPath)).equals(good), "no start is given the damaged one");
});

test("I7 a damaged rootfs of a VM is built again from the image that the VM was made from, when no name leads to that any more", async () => {
  await using real = await createRealArtifacts();
  const { image, rootfsPath } = real;
  const { rootfsKey, reference } = image;
  const record = { name: "box", image: reference, imageDigest: image.image.manifestDigest, rootfsKey } as unknown as VmRecord;
  const vms = { list: () => [record] } as unknown as Core["vms"];
  const core: Core = { ...real.core, vms, content: real.core.blobs as unknown as Core["content"] };
  core.images.removeImage(reference);
  const good = await readFile(rootfsPath);
  const { signal } = new AbortController();
  await flipByte(rootfsPath, 66 * 4096);
  const artifact = (await listArtifacts(core)).find(({ kind }) => kind === "rootfs");
  assert.ok(artifact !== undefined);
  const checked = await checkArtifact(core, artifact, { signal, onRead: () => undefined });
  assert.deepEqual([checked?.state, checked?.repair], ["damaged", "it was built again"]);
  assert.ok((await readFile(rootfsPath)).equals(good));

  // a start that comes first does the same
  await flipByte(rootfsPath, 66 * 4096);
  const nothingElse = new Error("the rootfs is there");
  const disks = { prepare: () => Promise.reject(nothingElse) } as unknown as Core["disks"];
  await assert.rejects(prepareFiles({ ...core, disks }, record, { signal }), nothingElse);
  assert.ok((await readFile(rootfsPath)).equals(good));

  await flipByte(rootfsPath, 66 * 4096);
  await rm(real.layerPath(0));
  await assert.rejects(prepareFiles({ ...core, disks }, record, { signal }), { code: "ARTIFACT_DAMAGED" });
});

test("I7 a kernel set with other bytes is forgotten and goes", async () => {
  await using real = await createRealArtifacts();
  const { core } = real;
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  const directory = await addKernel(core, sha256);
  assert.deepEqual(damaged(await scrub(real)), []);
  await flipByte(join(directory, "initramfs"), 3);
  assert.deepEqual(damaged(await scrub(real)), [["kernel", KERNEL, "damaged"]]);
  assert.equal(core.kernels.getKernel(KERNEL), null);
  assert.ok(!existsSync(directory));
});

const KERNEL = "a".repeat(64);

const addKernel = async (core: Core, sha256: (text: string) => string): Promise<string> => {
  const directory = (core.kernelSets as KernelSets & { path(key: string): string }).path(KERNEL);
  const names = ["vmlinux", "initramfs", "modules.ext4"];
  await mkdir(directory, { recursive: true });
  for (const name of names) await writeFile(join(directory, name), name);
  const manifest = JSON.stringify({
    ...{ key: KERNEL, name: "debian-cloud", architecture: "amd64", release: "1", agentSha256: sha256("agent"), builderVersion: "0" },
    package: { name: "linux-image", version: "1", sha256: sha256("package") },
    files: Object.fromEntries(names.map((name) => [name, { sha256: sha256(name), size: name.length }])),
    modules: { boot: [], block: [], overlay: [], net: [], vsock: [], mmio: [] },
  });
  await writeFile(join(directory, "manifest.json"), manifest);
  core.kernels.putKernel({
    ...{
      key: KERNEL,
      name: "debian-cloud",
      version: "1",
      source: "deb",
      builderDigest: "b",
      digest: `sha256:${sha256(manifest)}` as never,
    },
    ...{ sizeBytes: 1, createdAt: new Date(0).toISOString() },
  });
  return directory;
};

test("I1 scrubs at once are one pass", async () => {
  await using real = await createRealArtifacts();
  const operations = Array.from({ length: 4 }, () => beginScrub(real.core, NOBODY));
  for (const operation of operations) assert.equal((await real.fake.ended(operation)).state, "succeeded");
  const passes = real.core.operations.list({ all: true }).filter(({ kind, joined }) => kind === "scrub.pass" && joined === null);
  assert.equal(passes.length, 1);
});

/** The scrub of a daemon with that setting, from its start to its end. */
const daemonWith = (core: Core, scrub: Core["config"]["scrub"]) => {
  const stop = new AbortController();
  const ended = scrubSlowly({ ...core, config: { ...core.config, scrub }, stopping: stop.signal });
  return {
    ended,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await ended;
    },
  };
};

const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const FAST = { everyMs: 200, bytesPerSecond: 2 ** 30 };

test("I7 the scrub behind all else finds what is damaged by itself, and puts it right", async () => {
  await using real = await createRealArtifacts();
  const good = await readFile(real.rootfsPath);
  await flipByte(real.rootfsPath, 66 * 4096);
  await using _daemon = daemonWith(real.core, FAST);
  await until(() => eventsOf(real.core, "drift.repaired").length > 0);
  assert.ok((await readFile(real.rootfsPath)).equals(good));
  assert.equal(eventsOf(real.core, "artifact.damaged").length, 1);
});

test("the next daemon goes on where the one before stopped: what was read within the interval is not read again", async () => {
  await using real = await createRealArtifacts();
  const { core } = real;
  const read: string[] = [];
  const artifacts: Core["artifacts"] = {
    blob: (digest, reading) => {
      read.push(digest);
      return core.artifacts.blob(digest, reading);
    },
    rootfs: (key, reading) => {
      read.push(key);
      return core.artifacts.rootfs(key, reading);
    },
    kernel: (record, reading) => core.artifacts.kernel(record, reading),
    preboot: (record, reading) => core.artifacts.preboot(record, reading),
    blobs: () => core.artifacts.blobs(),
    storedAtMs: () => 0, // as if they had lain there for years
    removeBlobNow: (digest, found) => core.artifacts.removeBlobNow(digest, found),
  };
  const pace = { everyMs: 86_400_000, bytesPerSecond: 2 ** 30 };
  const soon = { ...core.clock, sleep: (ms: number, options: { signal: AbortSignal }) => core.clock.sleep(Math.min(ms, 20), options) };
  const watched = { ...core, artifacts, clock: soon };
  {
    await using _daemon = daemonWith(watched, pace);
    await until(async () => {
      const blobs = (await listArtifacts(watched)).filter(({ kind }) => kind === "blob");
      return blobs.every((blob) => core.checked.checkedAtMs(blob) !== null);
    });
  }
  {
    await using _next = daemonWith(watched, pace);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.equal(new Set(read).size, 4, "each blob once; the rootfs was built today");
  assert.equal(read.length, 4);
  const [oldest] = await listArtifacts(watched);
  assert.ok(oldest !== undefined && Date.now() - oldest.wholeAtMs < 60_000);
});

test("it reads no faster than it may, and ends at once with its daemon", async () => {
  await using real = await createRealArtifacts();
  const { size } = await stat(real.rootfsPath);
  const begun = performance.now();
  {
    await using _daemon = daemonWith(real.core, { everyMs: 1, bytesPerSecond: size / 2 });
    await until(async () => real.core.checked.checkedAtMs({ kind: "rootfs", id: real.image.rootfsKey }) !== null);
    assert.ok(performance.now() - begun > 1_900, `${size} bytes took ${performance.now() - begun} ms`);
  }
});
