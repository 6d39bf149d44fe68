import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { ImageView, KilnEvent } from "@kiln/protocol";
import { writeLayout } from "../../packages/cli/src/testing/image-files.ts";
import { TestHome } from "./home.ts";

/** The effect is there, and its answer is not: not written down, or not sent. */
const POINTS = ["record.request.answer.before", "record.request.answer.after"];

for (const point of POINTS) {
  test(`kill -9 of the daemon at ${point}: the client asks the next daemon, and what it asked for has happened once`, async () => {
    await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
    const layout = join(home.path, "..", "box");
    await writeLayout(layout, [{ tag: "1", layers: ["hello"] }]);
    await home.ok("pull", `oci:${layout}:1`);
    const [image] = await home.json<ImageView[]>("images");
    assert.ok(image);
    const steps: readonly { readonly argv: readonly string[]; readonly stdout: RegExp }[] = [
      { argv: ["tag", image.reference, "box:2"], stdout: /^box:2\n$/ },
      { argv: ["rmi", "box:2"], stdout: /^box:2\n$/ },
      { argv: ["rmi", image.reference], stdout: /box/ },
    ];
    for (const [index, { argv, stdout }] of steps.entries()) {
      await home.ok("daemon", "stop");
      const outcome = await home.kiln(argv, { env: { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` } });
      assert.deepEqual([outcome.code, outcome.stderr], [0, ""], argv.join(" "));
      assert.match(outcome.stdout, stdout);
      assert.equal((await home.daemonLog()).split(`failpoint ${point} kill`).length - 1, index + 1, "the point was met");
    }
    assert.deepEqual(await home.json<ImageView[]>("images"), []);
    const text = await home.ok("events", "--since", "0", "--until", "now", "--json", "--filter", "type=image");
    const events = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as KilnEvent);
    assert.deepEqual(
      events.map(({ type }) => type),
      ["image.recorded", "image.tagged", "image.removed", "image.removed"],
    );
  });
}
