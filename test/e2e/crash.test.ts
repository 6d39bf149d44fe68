import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { OperationView, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const HELLO = ["run", "--rm", IMAGE, "--", "busybox", "echo", "hello"];

/** Where the daemon is killed with a real guest, and what must be gone before so that the point is met again. All points, on the fake driver: docs/crash-matrix.md. */
const POINTS: Readonly<Record<string, "home" | "image" | "nothing">> = {
  "kernel.begun": "home",
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
    await waitUntil(async () => (await home.kiln(["daemon", "status"])).code === 3, "the daemon's stop");
  };

  const expectClean = async (): Promise<void> => {
    const df = await home.json<{ orphans: string[] }>("df");
    assert.deepEqual(df.orphans, []);
    const doctor = await home.json<{ checks: { name: string; status: string }[] }>("doctor");
    assert.deepEqual(
      doctor.checks.filter((check) => check.status === "fail"),
      [],
    );
    assert.deepEqual(await home.json<OperationView[]>("op", "ls"), []);
    const daemon = await home.daemonPid();
    assert.deepEqual(
      (await home.processes()).filter((pid) => pid !== daemon),
      [],
    );
  };

  for (const [point, lacking] of Object.entries(POINTS)) {
    test(`killed at ${point}`, async () => {
      await forget(lacking);
      const killed = await home.kiln(HELLO, { env: { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` } });
      assert.ok((await home.daemonLog()).includes(`failpoint ${point} kill`), "the point was met");
      assert.deepEqual(killed, { code: 0, stdout: "hello\n", stderr: "" });
      assert.deepEqual(await home.kiln(HELLO), { code: 0, stdout: "hello\n", stderr: "" });
      for (const vm of await home.json<VmView[]>("ps", "-a")) await home.ok("rm", "-f", vm.id);
      await expectClean();
    });
  }
});
