import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { systemClock } from "@kiln/std";
import { Apt } from "../host/apt.ts";
import { guestPlatform } from "../images/host-platform.ts";
import { ContentStore } from "./content-store.ts";
import { lease } from "./lease.fixture.ts";
import { DebImageSource, PACKAGES_LABEL } from "./deb-image.ts";

const signal = AbortSignal.timeout(300_000);
const quiet = { lease, signal, onPhase: () => undefined, onProgress: () => undefined };

const withSource = async (run: (source: DebImageSource, content: ContentStore) => Promise<void>): Promise<void> => {
  const home = await mkdtemp(join(tmpdir(), "kiln deb "));
  const stagingDir = join(home, "staging");
  const content = new ContentStore({ directory: join(home, "content"), stagingDir });
  try {
    await run(
      new DebImageSource({ apt: new Apt({ stagingDir, clock: systemClock }), content, platform: guestPlatform(process.arch) }),
      content,
    );
    assert.deepEqual(await readdir(stagingDir), [], "downloads are removed");
  } finally {
    await rm(home, { recursive: true });
  }
};

suite("deb images", () => {
  test("deb:busybox-static holds exactly the package's files", () =>
    withSource(async (source, content) => {
      const { image } = await source.fetch("deb:busybox-static", quiet);
      assert.equal(image.layers.length, 1);
      const [layer] = image.layers;
      assert.ok(layer);
      assert.equal(layer.format, "tar");
      assert.equal(layer.diffId, layer.digest);
      const files = execFileSync("tar", ["-tf", content.path(layer.digest)], { encoding: "utf8" }).split("\n");
      assert.ok(files.includes("./bin/busybox"));
      assert.ok(!files.some((file) => file.endsWith("/sh")), "no applet links are invented");
      assert.match(image.config.labels[PACKAGES_LABEL] ?? "", /^busybox-static=\S+$/);
      assert.deepEqual([image.config.entrypoint, image.config.cmd], [[], []]);
      assert.equal(image.reference, "deb:busybox-static");
    }));

  test("I9 the same packages give the same manifest, in another home, in another order, at the same time", async () => {
    const digests: string[] = [];
    const fetch = (reference: string) =>
      withSource(async (source) => void digests.push((await source.fetch(reference, quiet)).image.manifestDigest));
    await Promise.all([fetch("deb:hello,busybox-static"), fetch("deb:busybox-static,hello")]);
    assert.equal(digests[0], digests[1]);
  });

  test("dependencies are layers of their own, in the order of their names", () =>
    withSource(async (source) => {
      const { image } = await source.fetch("deb:hello", quiet);
      const names = (image.config.labels[PACKAGES_LABEL] ?? "").split(" ").map((one) => one.split("=")[0] ?? "");
      assert.ok(names.includes("libc6"));
      assert.deepEqual(names, [...names].sort());
      assert.equal(image.layers.length, names.length);
    }));

  test("a package that is not there is named, and bad names never reach apt", () =>
    withSource(async (source) => {
      await assert.rejects(source.fetch("deb:no-such-package-kiln", quiet), { code: "PACKAGE_NOT_FOUND", message: /no-such-package-kiln/ });
      for (const reference of ["deb:", "deb:-o=x,hello", "deb:Hello", "deb:hello,,", "deb:hello=;id", "deb:+essential"]) {
        await assert.rejects(source.fetch(reference, quiet), { code: "REFERENCE_INVALID" }, reference);
      }
    }));
});
