import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { OperationView, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const HELLO = ["run", "--rm", IMAGE, "--", "busybox", "echo", "hello"];

/** Where the daemon is killed, and what must be gone before so that the point is met again. */
const POINTS: Readonly<Record<string, "home" | "image" | "nothing">> = {
  "kernel.begun": "home",
  "kernel.published": "home",
  "image.fetched": "image",
  "rootfs.begun": "image",
  "rootfs.published": "image",
  "start.reserved": "nothing",
  "start.booted": "nothing",
  "start.connected": "nothing",
  "start.commanded": "nothing",
  "delete.marked": "nothing",
  "delete.cleaned": "nothing",
};

describe("I35 kill -9 of the daemon at each point of a first run: the next command works and nothing is left", () => {
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
      // what is deleted by itself after the command's end is not waited for
      const command = point.startsWith("delete") ? ["run", "-d", ...HELLO.slice(1)] : HELLO;
      const killed = await home.kiln(command, { env: { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` } });
      const isMet = async (): Promise<boolean> => (await home.daemonLog()).includes(`failpoint ${point} kill`);
      await waitUntil(isMet, `${point} to be met after ${JSON.stringify(killed)}`);
      const again = await home.kiln(HELLO);
      assert.deepEqual(again, { code: 0, stdout: "hello\n", stderr: "" });
      for (const vm of await home.json<VmView[]>("ps", "-a")) await home.ok("rm", "-f", vm.id);
      await expectClean();
    });
  }

  test("every point was met: the list is the daemon's own", async () => {
    const names = await home.json<string[]>("doctor", "--failpoints");
    assert.deepEqual(names.filter((name) => !name.startsWith("publish")).sort(), Object.keys(POINTS).sort());
  });
});
