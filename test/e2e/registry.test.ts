import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { DfReport, ImageView, OperationView } from "@kiln/protocol";
import { Kiln } from "@kiln/sdk";
import { socketPathOf, UnixTransport } from "@kiln/sdk/node";
import { createImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import type { AccessEntry } from "../fixtures/access-log.ts";
import { copyToRegistry, debianDev, debianPython, distrolessLike, scratchBinary, skipImages } from "../fixtures/images.ts";
import { type Registry, startRegistry } from "../fixtures/registry.ts";
import { TestHome, waitUntil } from "./home.ts";

const signal = AbortSignal.timeout(600_000);
const IMAGES = { "debian-dev": debianDev, "debian-python": debianPython, "distroless-like": distrolessLike, "from-scratch": scratchBinary };
const CLIENTS = 4;
const PULLS = 40;

const digestBytes = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const isManifest = (entry: AccessEntry): boolean => entry.path.includes("/manifests/");
const digestOf = (entry: AccessEntry): string | undefined => /\/blobs\/(sha256:[0-9a-f]{64})/.exec(entry.path)?.[1];
/** Once for each time that a blob was sent. */
const blobsSent = (log: readonly AccessEntry[]): string[] =>
  log.filter((one) => one.method === "GET").flatMap((one) => digestOf(one) ?? []);

const expectNothingLeft = async (home: TestHome): Promise<void> => {
  assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
  assert.deepEqual(await readdir(join(home.path, "staging")), []);
  assert.deepEqual(await home.json("op", "ls"), []);
};

describe("images from a real registry", { skip: skipImages }, () => {
  let registry: Registry;
  before(async () => {
    registry = await startRegistry({ signal });
    for (const [name, make] of Object.entries(IMAGES))
      await copyToRegistry(await make({ signal }), `${registry.host}/${name}:latest`, { signal });
  });
  after(() => registry[Symbol.asyncDispose]());

  test("a run fetches once; again it asks for nothing, and with --pull=always for one manifest", async () => {
    await using home = await TestHome.warm({ memory: "512m" });
    const before = new Set((await home.json<OperationView[]>("op", "ls", "-a")).map(({ id }) => id));
    const image = `${registry.host}/debian-dev:latest`;
    const run = (...flags: string[]) => home.kiln(["run", "--rm", ...flags, image, "--", "python3", "-c", "print(6*7)"]);
    await registry.clearLog();
    assert.deepEqual(await run(), { code: 0, stdout: "42\n", stderr: "" });
    const cold = await registry.accessLog();
    assert.equal(cold.filter(isManifest).length, 1);
    assert.equal(new Set(blobsSent(cold)).size, 6, "a config and five layers");
    assert.equal(blobsSent(cold).length, 6);
    await registry.clearLog();
    assert.deepEqual(await run(), { code: 0, stdout: "42\n", stderr: "" });
    assert.deepEqual(await registry.accessLog(), []);
    assert.deepEqual(await run("--pull", "always"), { code: 0, stdout: "42\n", stderr: "" });
    const again = await registry.accessLog();
    assert.deepEqual([again.length, again.filter(isManifest).length], [1, 1]);
    const operations = (await home.json<OperationView[]>("op", "ls", "-a")).filter(({ id }) => !before.has(id));
    const done = (kind: string): number => operations.filter((one) => one.kind === kind && one.joined === null).length;
    assert.deepEqual([done("rootfs.build"), done("kernel.build"), done("blob.fetch")], [1, 0, 6]);
    await expectNothingLeft(home);
  });

  test(`I1 ${PULLS} pulls of four images by ${CLIENTS} clients at once fetch each blob once, and the registry's log is the witness`, async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    await home.ok("daemon", "start");
    const clients = Array.from({ length: CLIENTS }, () => new Kiln(new UnixTransport({ socketPath: socketPathOf(home.path) })));
    const names = Object.keys(IMAGES).map((name) => `${registry.host}/${name}:latest`);
    await registry.clearLog();
    const pulls = Array.from({ length: PULLS }, async (_, index) => {
      const kiln = clients[index % CLIENTS];
      const name = names[Math.floor(index / CLIENTS) % names.length];
      assert.ok(kiln !== undefined && name !== undefined);
      return kiln.operations.result(await kiln.images.pull(name, { signal }), { signal });
    });
    const ended = await Promise.all(pulls);
    assert.deepEqual(new Set(ended.map((one) => one.state)), new Set(["succeeded"]));
    const sent = blobsSent(await registry.accessLog());
    assert.deepEqual(sent.toSorted(), [...new Set(sent)].toSorted(), "no blob was sent twice");
    const images = await home.json<ImageView[]>("images");
    assert.deepEqual(images.map((one) => one.reference).toSorted(), names.toSorted());
    const operations = await home.json<OperationView[]>("op", "ls", "-a");
    const leaders = operations.filter((one) => one.kind === "image.pull" && one.joined === null);
    assert.equal(leaders.length, names.length);
    assert.equal(operations.filter((one) => one.kind === "rootfs.build" && one.joined === null).length, names.length);
    for (const client of clients) client[Symbol.dispose]();
    await expectNothingLeft(home);
    await expectDu(home);
  });

  test("what several images share is counted as shared, and goes with the last of them", async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    const [dev, python] = [`${registry.host}/debian-dev:latest`, `${registry.host}/debian-python:latest`];
    await home.ok("pull", dev, python);
    const both = await home.json<DfReport>("df");
    const shared = both.images.map((one) => one.sharedBytes);
    assert.ok(
      shared.every((bytes) => bytes > 10_000_000),
      "the base and Python's layer",
    );
    assert.equal(shared[0], shared[1]);
    await home.ok("rmi", python);
    const one = await home.json<DfReport>("df");
    const [left] = one.images;
    assert.equal(left?.sharedBytes, 0);
    const freed = both.total.diskBytes - one.total.diskBytes;
    const unique = both.images.find((image) => image.reference === python)?.uniqueBytes ?? 0;
    assert.ok(Math.abs(freed - unique) < 1_000_000, `${freed} bytes went, ${unique} were unique`);
    assert.equal((await home.kiln(["rmi", dev])).code, 0);
    assert.deepEqual(
      (await home.json<DfReport>("df")).items.filter((item) => item.kind === "blob" || item.kind === "rootfs"),
      [],
    );
    await expectNothingLeft(home);
  });

  test("a name that moves leads to the new image, and nothing of the old is left", async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    const name = `${registry.host}/moving:latest`;
    await copyToRegistry(await scratchBinary({ signal }), name, { signal });
    await home.ok("pull", name);
    const [before] = await home.json<ImageView[]>("images");
    await copyToRegistry(await distrolessLike({ signal }), name, { signal });
    const pulled = await home.json<ImageView & { upToDate: boolean }>("pull", name);
    assert.equal(pulled.upToDate, false);
    assert.notEqual(pulled.digest, before?.digest);
    assert.equal((await home.json<{ upToDate: boolean }>("pull", name)).upToDate, true);
    const df = await home.json<DfReport>("df");
    assert.equal(df.items.filter((item) => item.kind === "rootfs").length, 1);
    assert.ok(df.items.filter((item) => item.kind === "blob").every((item) => item.inUse));
    await expectNothingLeft(home);
  });
});

describe("I11 callers of one transfer leave", () => {
  /** Serves an image whose layer stands still after its first half until `release` is called. */
  const startSlow = async () => {
    const registry = await ScriptedRegistry.start();
    const release = Promise.withResolvers<void>();
    const [layer, other] = [randomBytes(4 * 2 ** 20), randomBytes(1000)];
    registry.serve("one", "latest", createImage([layer]));
    registry.serve("two", "latest", createImage([layer, other]));
    const digest = digestBytes(layer);
    registry.script = (asked, honest) => (asked.path.endsWith(digest) ? { ...honest, after: release.promise } : honest);
    return { registry, digest, release: () => release.resolve() };
  };

  /** Two callers of two images that share the layer; both wait for it when this returns. */
  const pullBoth = async (home: TestHome, { registry, digest }: { registry: ScriptedRegistry; digest: string }) => {
    const pulls = ["one", "two"].map((name) => home.start(["pull", `${registry.host}/${name}`]));
    const isJoined = async (): Promise<boolean> => {
      const fetches = (await home.json<OperationView[]>("op", "ls")).filter((one) => one.kind === "blob.fetch" && one.key === digest);
      return fetches.length === 2 && registry.count(digest) === 1;
    };
    await waitUntil(isJoined, "both to wait for the layer");
    return pulls;
  };

  test("one leaves: the other gets what both asked for, by the same transfer", async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    const slow = await startSlow();
    await using registry = slow.registry;
    await home.ok("daemon", "start");
    const [leaver, stayer] = await pullBoth(home, slow);
    leaver?.interrupt();
    assert.equal((await leaver?.outcome)?.code, 130);
    slow.release();
    const outcome = await stayer?.outcome;
    assert.equal(outcome?.code, 1, "the layers are noise, no tars: the transfer went well and the build says so");
    assert.match(outcome?.stderr ?? "", /cannot become part of a rootfs/);
    assert.equal(registry.count(slow.digest), 1);
  });

  test("the last leaves: the transfer has stopped when its command ends, and nothing unfinished is left", async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    const slow = await startSlow();
    await using registry = slow.registry;
    await home.ok("daemon", "start");
    const pulls = await pullBoth(home, slow);
    for (const pull of pulls) pull.interrupt();
    for (const pull of pulls) assert.equal((await pull.outcome).code, 130);
    await expectNothingLeft(home);
    await waitUntil(async () => registry.connections === 0, "the registry's connections to be closed");
    const states = (await home.json<OperationView[]>("op", "ls", "-a")).map((one) => one.state);
    assert.ok(states.includes("cancelled") && !states.includes("running"), states.join(" "));
  });
});

const expectDu = async (home: TestHome): Promise<void> => {
  const du = Number(execFileSync("du", ["-s", "--block-size=1", home.path], { encoding: "utf8" }).split("\t")[0]);
  const { total, items } = await home.json<DfReport>("df");
  assert.equal(
    total.diskBytes,
    items.reduce((sum, item) => sum + item.diskBytes, 0),
  );
  assert.ok(Math.abs(total.diskBytes - du) < 256 * 1024, `df says ${total.diskBytes}, du says ${du}`);
};
