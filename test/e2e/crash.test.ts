import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { OperationView, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const HELLO = ["run", "--rm", IMAGE, "--", "busybox", "echo", "hello"];

/** Where the daemon is killed, in the order in which a first run meets them. */
const POINTS = [
  "kernel.begun",
  "kernel.published",
  "image.fetched",
  "rootfs.begun",
  "rootfs.published",
  "start.reserved",
  "start.booted",
  "start.connected",
  "start.commanded",
  "delete.marked",
  "delete.cleaned",
];

describe("I35 kill -9 of the daemon at each point of a first run: the next command works and nothing is left", () => {
  let home: TestHome;
  before(async () => {
    home = await TestHome.create();
  });
  after(() => home[Symbol.asyncDispose]());

  const expectClean = async (): Promise<void> => {
    const df = await home.json<{ orphans: string[] }>("df");
    assert.deepEqual(df.orphans, []);
    const doctor = await home.json<{ checks: { name: string; status: string }[] }>("doctor");
    assert.deepEqual(doctor.checks.filter((check) => check.status === "fail"), []);
    const operations = await home.json<OperationView[]>("op", "ls");
    assert.deepEqual(operations, []);
    const daemon = await home.daemonPid();
    assert.deepEqual((await home.processes()).filter((pid) => pid !== daemon), []);
  };

  for (const point of POINTS) {
    test(`killed at ${point}`, async () => {
      await home.kiln(["daemon", "stop"]);
      await waitUntil(async () => (await home.kiln(["daemon", "status"])).code === 3, "the daemon's stop");
      const killed = await home.kiln(HELLO, { env: { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` } });
      assert.notEqual(killed.stderr, "", "the run says what happened");
      const again = await home.kiln(HELLO);
      assert.deepEqual(again, { code: 0, stdout: "hello\n", stderr: "" });
      const left = await home.json<VmView[]>("ps", "-a");
      for (const vm of left) await home.ok("rm", "-f", vm.id);
      await expectClean();
    });
  }

  test("every point was met: the list is the daemon's own", async () => {
    const names = await home.json<string[]>("doctor", "--failpoints");
    assert.deepEqual([...POINTS].sort(), names.filter((name) => !name.startsWith("publish")).sort());
  });
});
