import assert from "node:assert/strict";
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { DfReport, ImageDetails, ImageRebuild, ImageVerification, KilnEvent, ScrubReport, VmView } from "@kiln/protocol";
import { writeLayout } from "../../packages/cli/src/testing/image-files.ts";
import { flipByte } from "../../packages/daemon/src/operations/testing/real-artifacts.ts";
import { createImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { buildTar } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { TestHome, waitUntil } from "./home.ts";

const FAKE = { KILN_DRIVER: "fake" };
const KERNELLESS = { ...FAKE, KILN_SCRUB: "off" };
const IN_DATA = 66 * 4096;

const tool = (text: string) =>
  createImage([buildTar([{ path: "tool", type: "file", content: text }]), buildTar([{ path: "etc", type: "directory" }])]);

const rootfsOf = async (home: TestHome, reference: string): Promise<string> =>
  join(home.path, "rootfs", `${(await home.json<ImageDetails>("image", "inspect", reference).then(only)).rootfsKey}.ext4`);

const only = <One>(list: One | readonly One[]): One => {
  const one = Array.isArray(list) ? (list as readonly One[])[0] : (list as One);
  assert.ok(one !== undefined);
  return one;
};

/** The last line: before it the shell may say that it waits for another one's bootstrap. */
const problemOf = ({ stderr }: { stderr: string }): { code: string; hint: string } | null => {
  const line = stderr.trimEnd().split("\n").at(-1) ?? "";
  return line.startsWith("{") ? (JSON.parse(line) as { code: string; hint: string }) : null;
};

const blobPath = (home: TestHome, digest: string): string => join(home.path, "content/sha256", digest.replace("sha256:", ""));

/** Prints its report, and exits with 1 where that says damaged. */
const verify = async (
  home: TestHome,
  reference: string,
): Promise<{ report: ImageVerification; problem: { code: string; hint: string } | null }> => {
  const { code, stdout, stderr } = await home.kiln(["image", "verify", reference, "--json"]);
  const report = JSON.parse(stdout) as ImageVerification;
  assert.equal(code, report.ok ? 0 : 1);
  return { report, problem: problemOf({ stderr }) };
};

const expectNothingWrong = async (home: TestHome): Promise<void> => {
  assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
  assert.deepEqual(await readdir(join(home.path, "staging")), []);
};

test("I7 I14 image rebuild fetches what is damaged from where the image came, by its digest: the name may lead elsewhere by now", async () => {
  await using registry = await ScriptedRegistry.start();
  const image = tool("one");
  registry.serve("tool", "latest", image);
  await using home = await TestHome.create("", KERNELLESS);
  const reference = `${registry.host}/tool:latest`;
  await home.ok("pull", reference);
  assert.deepEqual((await verify(home, reference)).report.ok, true);
  const { layerList, configDigest } = only(await home.json<ImageDetails[]>("image", "inspect", reference));
  const layer = layerList[0]?.digest ?? "";
  await flipByte(blobPath(home, layer), 600);
  await rm(blobPath(home, configDigest));
  await flipByte(await rootfsOf(home, reference), IN_DATA);

  const { report, problem } = await verify(home, reference);
  const bad = new Map(report.blobs.filter(({ state }) => state !== "whole").map(({ digest, state }) => [digest, state]));
  assert.deepEqual([bad.size, bad.get(configDigest), bad.get(layer)], [2, "missing", "damaged"]);
  assert.equal(problem?.code, "ARTIFACT_DAMAGED");
  assert.equal(problem?.hint, `build it again with \`kiln image rebuild ${reference}\``);

  registry.serve("tool", "latest", tool("another"));
  registry.asked = [];
  const rebuilt = await home.json<ImageRebuild>("image", "rebuild", reference);
  assert.deepEqual(
    [rebuilt.digest, rebuilt.before, rebuilt.fetched.toSorted()],
    [report.recorded, report.recorded, [configDigest, layer].toSorted()],
  );
  assert.equal((await verify(home, reference)).report.ok, true);
  assert.equal(registry.count(layer), 1);
  await expectNothingWrong(home);
});

test("I14 I15 a registry that is gone, or has other bytes: the rebuild says so, and the old rootfs is in its place", async () => {
  await using home = await TestHome.create("", KERNELLESS);
  let reference = "";
  let layer = "";
  {
    await using registry = await ScriptedRegistry.start();
    registry.serve("tool", "latest", tool("one"));
    reference = `${registry.host}/tool:latest`;
    await home.ok("pull", reference);
    layer = only(await home.json<ImageDetails[]>("image", "inspect", reference)).layerList[0]?.digest ?? "";
    await flipByte(blobPath(home, layer), 600);
    registry.script = (asked, honest) =>
      asked.path.endsWith(layer) ? { ...honest, body: Buffer.alloc(honest.body?.length ?? 0) } : honest;
    const before = await stat(await rootfsOf(home, reference), { bigint: true });
    const lied = await home.kiln(["image", "rebuild", reference, "--json"]);
    assert.equal(problemOf(lied)?.code, "CONTENT_DIGEST_MISMATCH");
    assert.deepEqual(await stat(await rootfsOf(home, reference), { bigint: true }), before);
  }
  const gone = await home.kiln(["image", "rebuild", reference, "--json"]);
  assert.equal(problemOf(gone)?.code, "REGISTRY_UNREACHABLE");
  assert.equal((await verify(home, reference)).report.found, (await verify(home, reference)).report.recorded);
  await expectNothingWrong(home);
});

test("I7 a daemon reads what it keeps by itself: a damaged rootfs is built again, told of, and not found again by the next daemon", async () => {
  await using home = await TestHome.create("", { ...FAKE, KILN_SCRUB: "1s" });
  const layout = join(home.path, "../layout");
  await writeLayout(layout, [{ tag: "1", layers: ["one", "two"] }]);
  const reference = `oci:${layout}:1`;
  await home.ok("pull", reference);
  await home.ok("image", "rebuild", reference); // a layout that is taken in is not built yet
  const path = await rootfsOf(home, reference);
  const good = await readFile(path);
  await flipByte(path, IN_DATA);
  // until then there may be no file for a moment: what is damaged goes before it is built again
  await waitUntil(async () => (await events(home, "drift.repaired")).length > 0, "the scrub to put it right");
  assert.ok((await readFile(path)).equals(good));
  const damaged = await events(home, "artifact.damaged");
  assert.deepEqual(
    damaged.map(({ data }) => [data["kind"], data["state"]]),
    [["rootfs", "damaged"]],
  );
  assert.equal((await events(home, "drift.repaired")).length, 1);
  await home.ok("daemon", "restart");
  assert.deepEqual((await home.json<ScrubReport>("scrub")).damaged, 0);
  assert.equal((await verify(home, reference)).report.ok, true);
  await expectNothingWrong(home);
});

const events = async (home: TestHome, type: string): Promise<KilnEvent[]> =>
  (await home.ok("events", "--since", "0", "--until", "now", "--json", "--filter", `type=${type}`))
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as KilnEvent);

test("I7 I14 a rootfs that is changed while a VM runs on it: verify and scrub find it, the VM runs on, and the next VM has the right bytes", async () => {
  const image = "deb:busybox-static";
  await using home = await TestHome.warm({ memory: "512m", image });
  await home.ok("run", "-d", "--name", "one", image, "--", "busybox", "sleep", "1000");
  const path = await rootfsOf(home, image);
  const { size, ino } = await stat(path);
  assert.equal((await verify(home, image)).report.ok, true, "verify works while a VM runs");
  await flipByte(path, size - 1); // the tables behind the data
  const { report } = await verify(home, image);
  assert.deepEqual([report.ok, report.difference?.offset], [false, size - 1]);
  const scrubbed = await home.json<ScrubReport>("scrub");
  assert.deepEqual(
    scrubbed.artifacts.filter(({ state }) => state !== "whole").map(({ kind, repair }) => [kind, repair]),
    [["rootfs", "it was built again"]],
  );
  assert.notEqual((await stat(path)).ino, ino);
  assert.equal(await home.ok("exec", "one", "--", "busybox", "echo", "still here"), "still here\n");
  assert.equal((await home.json<VmView>("inspect", "one").then(only)).epoch, 1);
  assert.equal(await home.ok("run", "--rm", image, "--", "busybox", "echo", "hi"), "hi\n");
  assert.equal((await verify(home, image)).report.ok, true);
  await home.ok("image", "rebuild", image);
  assert.equal(await home.ok("exec", "one", "--", "busybox", "echo", "and still"), "and still\n");
  await expectNothingWrong(home);
});
