import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { OperationView, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const run = promisify(execFile);
const IMAGE = "deb:busybox-static";

describe("a container image becomes a running microVM", () => {
  let home: TestHome;
  before(async () => {
    home = await TestHome.create();
  });
  after(() => home[Symbol.asyncDispose]());

  test("I1 ten concurrent runs on an empty home: one daemon, one pull, one rootfs build, one kernel build", async () => {
    const runs = await Promise.all(Array.from({ length: 10 }, () => home.kiln(["run", "--rm", IMAGE, "--", "busybox", "echo", "hi"])));
    assert.deepEqual(
      runs.filter((one) => one.code !== 0 || one.stdout !== "hi\n"),
      [],
    );
    const operations = await home.json<OperationView[]>("op", "ls", "-a");
    for (const kind of ["image.pull", "rootfs.build", "kernel.build"]) {
      const made = operations.filter((one) => one.kind === kind && one.state === "succeeded" && one.joined === null);
      assert.equal(made.length, 1, `${kind} ran ${made.length} times`);
    }
    assert.deepEqual(await home.json("ps", "-a"), []);
  });

  test("the README's first command prints the guest's kernel", async () => {
    assert.match(await home.ok("run", "--rm", IMAGE, "--", "busybox", "uname", "-a"), /^Linux \S+ \d+\.\d+.*cloud-amd64/);
  });

  test("environment, stdin, working directory, user and exit code go in and out", async () => {
    const script = "echo $FOO; busybox pwd; busybox id -u; busybox cat; echo bad >&2; exit 7";
    const args = ["run", "--rm", "-i", "-e", "FOO=bar", "-w", "/bin", "-u", "1234:1", IMAGE, "--", "busybox", "sh", "-c", script];
    const outcome = await home.kiln(args, { input: "from stdin\n" });
    assert.deepEqual(outcome, { code: 7, stdout: "bar\n/bin\n1234\nfrom stdin\n", stderr: "bad\n" });
  });

  test("a command that dies of a signal gives 128 and the signal's number", async () => {
    assert.equal((await home.kiln(["run", "--rm", IMAGE, "--", "busybox", "sh", "-c", "kill -TERM $$"])).code, 143);
  });

  test("a large output arrives whole", async () => {
    const outcome = await home.kiln(["run", "--rm", IMAGE, "--", "busybox", "sh", "-c", "busybox seq 1 200000"]);
    assert.equal(outcome.code, 0);
    assert.equal(outcome.stdout, `${Array.from({ length: 200_000 }, (_, index) => index + 1).join("\n")}\n`);
  });

  test("an OCI layout runs detached; exec, logs, ps, inspect, stop, start and rm see it", async () => {
    const directory = await mkdtemp(join(tmpdir(), "kiln-layout-"));
    try {
      await makeLayout(directory);
      await home.kiln(["run", "-d", "--name", "web", `oci:./layout:v1`], { cwd: directory });
      assert.equal(await home.ok("exec", "web", "--", "busybox", "cat", "/etc/os-release"), "ID=kiln-test\n");
      await waitUntil(async () => (await home.ok("logs", "web")).includes("ready"), "the log");
      const [vm] = await home.json<VmView[]>("ps");
      assert.equal(vm?.name, "web");
      assert.equal(vm?.state, "running");
      const inspected = await home.json<VmView | VmView[]>("inspect", "web");
      assert.equal((Array.isArray(inspected) ? inspected[0] : inspected)?.startPath, "preboot");
      await home.ok("exec", "web", "--", "busybox", "sh", "-c", "echo kept > /kept; busybox sync");
      await home.ok("stop", "-t", "2", "web");
      assert.equal((await home.kiln(["exec", "web", "--", "busybox", "true"])).code, 125);
      await home.ok("start", "web");
      assert.equal(await home.ok("exec", "web", "--", "busybox", "cat", "/kept"), "kept\n");
      await waitUntil(async () => (await home.ok("logs", "web")) === "ready\nready\n", "the log of both starts");
      assert.equal((await home.kiln(["rm", "web"])).code, 1);
      await home.ok("rm", "-f", "web");
      assert.deepEqual(await home.json("ps", "-a"), []);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("I36 a VM outlives kill -9 of the daemon with the same boot, and its log goes on", async () => {
    const counting = "i=0; while :; do i=$((i+1)); echo $i; busybox usleep 20000; done";
    await home.ok("run", "-d", "--name", "counter", IMAGE, "--", "busybox", "sh", "-c", counting);
    const boot = await home.ok("exec", "counter", "--", "busybox", "cat", "/proc/sys/kernel/random/boot_id");
    const before = await home.json<VmView | VmView[]>("inspect", "counter");
    for (let round = 0; round < 2; round += 1) {
      await home.killDaemon();
      await home.ok("daemon", "start");
    }
    assert.equal(await home.ok("exec", "counter", "--", "busybox", "cat", "/proc/sys/kernel/random/boot_id"), boot);
    const after = await home.json<VmView | VmView[]>("inspect", "counter");
    assert.deepEqual([after].flat()[0]?.pid, [before].flat()[0]?.pid);
    const lines = (await home.ok("logs", "counter")).trimEnd().split("\n").map(Number);
    assert.deepEqual(
      lines,
      lines.map((_, index) => index + 1),
    );
    await home.ok("rm", "-f", "counter");
  });

  test("I36 a foreground run goes on through kill -9 and a stop of the daemon and loses and doubles nothing", async () => {
    const counting = "i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo $i; busybox usleep 20000; done; exit 3";
    const running = home.kiln(["run", "--rm", "--name", "survivor", IMAGE, "--", "busybox", "sh", "-c", counting]);
    await waitUntil(async () => (await home.kiln(["logs", "survivor"])).stdout.includes("10\n"), "the first numbers");
    await home.killDaemon();
    await waitUntil(async () => (await home.kiln(["logs", "survivor"])).stdout.includes("60\n"), "more numbers");
    await home.ok("daemon", "stop");
    await home.ok("daemon", "start");
    const outcome = await running;
    assert.deepEqual({ ...outcome, stdout: outcome.stdout.split("\n").length }, { code: 3, stdout: 151, stderr: "" });
    assert.equal(outcome.stdout, `${Array.from({ length: 150 }, (_, index) => index + 1).join("\n")}\n`);
  });

  test("the home is closed to others, and nothing is left in it that no record owns", async () => {
    assert.equal((await stat(home.path)).mode & 0o777, 0o700);
    const df = await home.json<{ orphans: string[] }>("df");
    assert.deepEqual(df.orphans, []);
    const doctor = await home.json<{ ok: boolean; checks: { name: string; status: string }[] }>("doctor");
    assert.deepEqual(
      doctor.checks.filter((check) => check.status === "fail"),
      [],
    );
  });
});

/** A layout with one image, made by skopeo and umoci: busybox, a marker file and a command that waits. */
const makeLayout = async (directory: string): Promise<void> => {
  const layout = join(directory, "layout");
  const bundle = join(directory, "bundle");
  const umoci = (...args: string[]) => run("umoci", args, { cwd: directory });
  await umoci("init", "--layout", layout);
  await umoci("new", "--image", `${layout}:v1`);
  await umoci("unpack", "--image", `${layout}:v1`, bundle);
  await run("sh", ["-ec", 'mkdir -p "$0/bin" "$0/etc"; cp "$(command -v busybox)" "$0/bin/busybox"', join(bundle, "rootfs")]);
  await writeFile(join(bundle, "rootfs/etc/os-release"), "ID=kiln-test\n");
  await umoci("repack", "--image", `${layout}:v1`, bundle);
  const command = "trap 'exit 0' TERM; echo ready; while :; do busybox sleep 1 & wait $!; done";
  await umoci(
    "config",
    "--image",
    `${layout}:v1`,
    "--config.cmd",
    "busybox",
    "--config.cmd",
    "sh",
    "--config.cmd",
    "-c",
    "--config.cmd",
    command,
  );
};
