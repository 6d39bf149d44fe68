/** I1 to I15 with processes that share nothing but a home: command lines of one daemon. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import type { DfReport, ImageDetails, ImageRebuild, ImageView, KilnEvent, OperationKind, OperationView, Problem } from "@kiln/protocol";
import { flipByte } from "../../packages/daemon/src/operations/testing/real-artifacts.ts";
import { createImage, type TestImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { type Asked, ScriptedRegistry } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { buildTar } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { type Started, TestHome, waitUntil } from "./home.ts";

const CLIENTS = 6;

const toolOf = (text: string): TestImage => createImage([buildTar([{ path: "tool", type: "file", content: text }])]);

/** What is fetched by digest: the manifest is asked for by its tag. */
const blobsOf = (text: string): string[] => {
  const { blobs, digest } = toolOf(text);
  return [...blobs.keys()].filter((one) => one !== digest);
};

/** A registry whose layers are kept until they are released, and a home that has no image. */
class World implements AsyncDisposable {
  readonly registry: ScriptedRegistry;
  readonly home: TestHome;
  readonly #held = Promise.withResolvers<void>();
  readonly #layers = new Set<string>();

  private constructor(registry: ScriptedRegistry, home: TestHome) {
    this.registry = registry;
    this.home = home;
    registry.script = (asked, honest) => (this.#isLayer(asked) ? { ...honest, after: this.#held.promise } : honest);
  }

  static async create(...tools: string[]): Promise<World> {
    const registry = await ScriptedRegistry.start();
    const home = await TestHome.create("", { KILN_DRIVER: "fake", KILN_SCRUB: "off" });
    const world = new World(registry, home);
    for (const tool of tools) {
      registry.serve(tool, "latest", toolOf(tool));
      for (const digest of blobsOf(tool)) world.#layers.add(digest);
    }
    await home.ok("daemon", "start");
    return world;
  }

  name(tool: string): string {
    return `${this.registry.host}/${tool}:latest`;
  }

  #isLayer({ path }: Asked): boolean {
    return [...this.#layers].some((digest) => path.endsWith(digest) && path.includes("/blobs/"));
  }

  release(): void {
    this.#held.resolve();
  }

  operations(kind: OperationKind): Promise<OperationView[]> {
    return this.home.json<OperationView[]>("op", "ls", "-a").then((all) => all.filter((one) => one.kind === kind));
  }

  /** So many callers are inside the slow part at once. */
  async inside(kind: OperationKind, count: number): Promise<void> {
    const waiters = async (): Promise<number> =>
      (await this.operations(kind))
        .filter(({ finishedAt, joined }) => finishedAt === null && joined === null)
        .reduce((sum, one) => sum + one.waiters, 0);
    await waitUntil(async () => (await waiters()) === count, `${count} at ${kind}`);
  }

  async expectNothingLeft(): Promise<void> {
    const { orphans } = await this.home.json<DfReport>("df");
    assert.deepEqual(orphans, []);
    assert.deepEqual(await readdir(join(this.home.path, "staging")), []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release();
    await this.home[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}

/** The last line: before it the shell may say that it waits for another one's bootstrap. */
const problemOf = ({ stderr }: { stderr: string }): Problem => JSON.parse(stderr.trimEnd().split("\n").at(-1) ?? "") as Problem;

const succeeded = async (clients: readonly Started[]): Promise<void> => {
  for (const client of clients) {
    const { code, stderr } = await client.outcome;
    assert.equal(code, 0, stderr);
  }
};

const detailsOf = async (home: TestHome, name: string): Promise<ImageDetails> => {
  const [details] = await home.json<ImageDetails[]>("image", "inspect", name);
  assert.ok(details);
  return details;
};

describe("two processes", () => {
  test(`I1 ${CLIENTS} clients pull one missing image at once: it is fetched and built once, and all succeed`, async () => {
    await using world = await World.create("tool");
    const clients = Array.from({ length: CLIENTS }, () => world.home.start(["pull", world.name("tool")]));
    await world.inside("image.pull", CLIENTS);
    world.release();
    await succeeded(clients);
    for (const kind of ["image.pull", "rootfs.build"] as const) {
      assert.equal((await world.operations(kind)).filter(({ joined }) => joined === null).length, 1, kind);
    }
    for (const digest of blobsOf("tool")) assert.equal(world.registry.count(digest), 1, digest);
  });

  test("I2 two clients that want two images are both in the middle of their pull, and neither waits for the other", async () => {
    await using world = await World.create("one", "two");
    const clients = ["one", "two"].map((tool) => world.home.start(["pull", world.name(tool)]));
    await world.inside("image.pull", 2);
    await waitUntil(async () => world.registry.busiest >= 2, "two transfers at once");
    world.release();
    await succeeded(clients);
  });

  test("I3 two clients give one name to two images at once: one wins, the other is told, and the winner's image is whole", async () => {
    await using world = await World.create("one", "two");
    world.release();
    for (const tool of ["one", "two"]) await world.home.ok("pull", world.name(tool));
    await world.home.ok("daemon", "stop");
    const env = { KILN_TEST: "1", KILN_FAILPOINT: "image.naming:2=gather" };
    assert.equal((await world.home.kiln(["daemon", "start"], { env })).code, 0);
    const clients = ["one", "two"].map((tool) => world.home.start(["tag", world.name(tool), "raced:latest", "--json"]));
    const ends = await Promise.all(clients.map((client) => client.outcome));
    assert.equal(ends.filter(({ code }) => code === 0).length, 1);
    const loser = ends.find(({ code }) => code === 1);
    assert.equal(loser === undefined ? "" : problemOf(loser).code, "IMAGE_NAME_CONFLICT");
    const winner = ends[0]?.code === 0 ? "one" : "two";
    assert.equal((await detailsOf(world.home, "raced:latest")).digest, (await detailsOf(world.home, world.name(winner))).digest);
    await world.home.ok("image", "verify", "raced:latest");
  });

  test("I4 I14 clients build a rootfs again and again while others read it: always the whole old or the whole new", async () => {
    await using world = await World.create("tool");
    world.release();
    const image = world.name("tool");
    await world.home.ok("pull", image);
    const { rootfsKey, rootfsDigest } = await detailsOf(world.home, image);
    const path = join(world.home.path, "rootfs", `${rootfsKey}.ext4`);
    const rebuilds = [0, 1, 2].map(() => world.home.start(["image", "rebuild", image, "--json"]));
    const others = ["pull", "pull"].map((command) => world.home.start([command, image]));
    let isOver = false;
    const ended = Promise.all([...rebuilds, ...others].map(({ outcome }) => outcome)).finally(() => (isOver = true));
    while (!isOver)
      assert.equal(
        `sha256:${createHash("sha256")
          .update(await readFile(path))
          .digest("hex")}`,
        rootfsDigest,
      );
    for (const { code, stderr } of await ended) assert.equal(code, 0, stderr);
    for (const { outcome } of rebuilds) assert.equal((JSON.parse((await outcome).stdout) as ImageRebuild).digest, rootfsDigest);
    await world.home.ok("image", "verify", image);
    await world.expectNothingLeft();
  });

  test("I6 I13 I15 two clients want one image whose layer breaks off: both are told why, nothing is left, and the next one starts afresh", async () => {
    await using world = await World.create("tool", "other");
    const layer = createHash("sha256")
      .update(toolOf("tool").layers[0] ?? "")
      .digest("hex");
    const honest = world.registry.script;
    world.registry.script = async (asked, reply) => {
      const held = await honest(asked, reply);
      return asked.path.endsWith(layer) ? { ...held, body: Buffer.alloc(reply.body?.length ?? 0, "x") } : held;
    };
    const failing = [0, 1].map(() => world.home.start(["pull", world.name("tool"), "--json"]));
    const other = world.home.start(["pull", world.name("other")]);
    await world.inside("image.pull", 3);
    world.release();
    for (const client of failing) {
      const { code, detail } = problemOf(await client.outcome);
      assert.equal(code, "CONTENT_DIGEST_MISMATCH");
      assert.match(detail, new RegExp(layer));
    }
    await succeeded([other]); // I6: its staging was nobody else's
    assert.deepEqual(
      (await world.home.json<ImageView[]>("images")).map(({ reference }) => reference),
      [world.name("other")],
    );
    await world.expectNothingLeft();
    world.registry.script = honest;
    await world.home.ok("pull", world.name("tool"));
    await world.home.ok("image", "verify", world.name("tool"), world.name("other"));
  });

  test("I8 a request that is not complete is refused with the name of the field that it lacks", async () => {
    await using world = await World.create();
    const cases = [
      ["/v1/images/import", { reference: "x" }, "root"],
      ["/v1/images/verify", {}, "reference"],
      ["/v1/images/tag", { source: "x" }, "target"],
    ] as const;
    for (const [path, body, field] of cases) {
      const problem = await post(join(world.home.path, "kiln.sock"), path, body);
      assert.equal(problem.code, "REQUEST_INVALID");
      assert.match(problem.detail, new RegExp(`^${field}: `));
    }
  });

  test("I9 two homes with a daemon each make the same rootfs of the same layers, at the same time", async () => {
    await using one = await World.create("tool");
    await using other = await World.create("tool");
    const clients = [one, other].map((world) => world.home.start(["pull", world.name("tool")]));
    await one.inside("image.pull", 1);
    await other.inside("image.pull", 1);
    for (const world of [one, other]) world.release();
    await succeeded(clients);
    const [first, second] = await Promise.all([one, other].map((world) => detailsOf(world.home, world.name("tool"))));
    assert.ok(first !== undefined && first.rootfsDigest !== null);
    assert.deepEqual([first.rootfsDigest, first.rootfsKey], [second?.rootfsDigest, second?.rootfsKey]);
  });

  test("I10 I11 clients that leave and clients that come while others wait: the work is one, and goes on for who stays", async () => {
    await using world = await World.create("tool");
    const pull = (): Started => world.home.start(["pull", world.name("tool")]);
    const [first, second] = [pull(), pull()];
    await world.inside("image.pull", 2);
    first.interrupt();
    assert.equal((await first.outcome).code, 130);
    const third = pull();
    await world.inside("image.pull", 2);
    second.interrupt();
    assert.equal((await second.outcome).code, 130);
    const fourth = pull();
    await world.inside("image.pull", 2);
    world.release();
    await succeeded([third, fourth]);
    assert.equal((await world.operations("image.pull")).filter(({ joined }) => joined === null).length, 1);
    for (const digest of blobsOf("tool")) assert.equal(world.registry.count(digest), 1, digest);
  });

  test("I11 when the last client leaves, the work has stopped and its staging is gone before its command ends", async () => {
    await using world = await World.create("tool");
    const clients = [0, 1].map(() => world.home.start(["pull", world.name("tool")]));
    await world.inside("image.pull", 2);
    for (const client of clients) client.interrupt();
    for (const client of clients) assert.equal((await client.outcome).code, 130);
    await world.expectNothingLeft();
    assert.deepEqual(await world.home.json("op", "ls"), []);
  });

  test("I12 clients that wait hold nothing: others name, make, verify and remove meanwhile", async () => {
    await using world = await World.create("tool");
    const ready = toolOf("ready");
    world.registry.serve("ready", "latest", ready);
    const image = world.name("ready");
    const waiting = Array.from({ length: CLIENTS }, () => world.home.start(["pull", world.name("tool")]));
    await world.inside("image.pull", CLIENTS);
    await world.home.ok("pull", image);
    await world.home.ok("tag", image, "further:name");
    await world.home.ok("image", "verify", image);
    await world.home.ok("image", "rebuild", image);
    await world.home.ok("rmi", "further:name", image);
    await world.inside("image.pull", CLIENTS);
    world.release();
    await succeeded(waiting);
  });

  test("I7 what another process damages is noticed at the next use, built again, and told of", async () => {
    await using world = await World.create("tool");
    world.release();
    const image = world.name("tool");
    await world.home.ok("pull", image);
    const { rootfsKey } = await detailsOf(world.home, image);
    const path = join(world.home.path, "rootfs", `${rootfsKey}.ext4`);
    const good = await readFile(path);
    await flipByte(path, good.length - 1);
    await world.home.ok("pull", image);
    assert.ok((await readFile(path)).equals(good));
    const events = (await world.home.ok("events", "--since", "0", "--until", "now", "--json", "--filter", "type=rootfs"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as KilnEvent);
    assert.deepEqual(
      events.map(({ type, data }) => [type, data["reason"]]),
      [
        ["rootfs.built", undefined],
        ["rootfs.removed", "missing or damaged"],
        ["rootfs.built", undefined],
      ],
    );
  });
});

const post = async (socketPath: string, path: string, body: object): Promise<Problem> => {
  const answer = Promise.withResolvers<string>();
  const asked = request({ socketPath, path, method: "POST", headers: { "content-type": "application/json" } }, (response) => {
    text(response).then(answer.resolve, answer.reject);
  });
  asked.on("error", answer.reject);
  asked.end(JSON.stringify(body));
  return JSON.parse(await answer.promise) as Problem;
};
