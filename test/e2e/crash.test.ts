import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connect } from "@kiln/sdk/node";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const HELLO = ["run", "--rm", IMAGE, "--", "busybox", "echo", "hello"];

/** Where the daemon is killed with a real guest, and what must be gone before so that the point is met again. All points, on the fake driver: docs/crash-matrix.md. */
const POINTS: Readonly<Record<string, "home" | "image" | "nothing">> = {
  "kernel.published": "home",
  "image.fetched": "image",
  "rootfs.published": "image",
  "vm.create.reserve.done": "nothing",
  "vm.start.claim.recorded": "nothing",
  "start.booted": "nothing",
  "start.connected": "nothing",
  "vm.start.boot.recorded": "nothing",
  "vm.start.command.done": "nothing",
  "vm.start.live.done": "nothing",
};

describe("I35 kill -9 of the daemon under a run: the next daemon goes on with it, the command gets its output once, and nothing is left", () => {
  let home: TestHome;
  before(async () => {
    home = await TestHome.create();
  });
  after(() => home[Symbol.asyncDispose]());

  const forget = async (what: "home" | "image" | "nothing"): Promise<void> => {
    if (what === "home") {
      await home[Symbol.asyncDispose]();
      home = await TestHome.create();
    }
    if (what === "image") await home.ok("rmi", IMAGE);
    await home.kiln(["daemon", "stop"]);
  };

  const expectClean = async (): Promise<void> => {
    using kiln = connect({ home: home.path });
    await waitUntil(async () => (await kiln.vms.list()).length === 0, "--rm");
    // a snapshot for the next VMs is built behind the first one
    await waitUntil(async () => (await kiln.operations.list()).length === 0, "the end of all operations");
    assert.deepEqual((await kiln.df()).orphans, []);
    const { pid } = await kiln.daemon.status();
    assert.deepEqual(
      (await home.processes()).filter((other) => other !== pid),
      [],
    );
  };

  for (const [point, lacking] of Object.entries(POINTS)) {
    test(`killed at ${point}`, async () => {
      await forget(lacking);
      const killed = await home.kiln(HELLO, { env: { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` } });
      assert.ok((await home.daemonLog()).includes(`failpoint ${point} kill`), "the point was met");
      assert.deepEqual(killed, { code: 0, stdout: "hello\n", stderr: "" });
      await expectClean();
    });
  }

  test("the home is as good as new", async () => {
    assert.deepEqual(await home.kiln(HELLO), { code: 0, stdout: "hello\n", stderr: "" });
    using kiln = connect({ home: home.path });
    const { checks } = await kiln.doctor();
    assert.deepEqual(
      checks.filter((check) => check.status === "fail"),
      [],
    );
    await expectClean();
  });
});
