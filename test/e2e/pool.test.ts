import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { DaemonStatus, DfReport, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
const [MEMORY, WANTED] = ["128m", 2];
/** A line for each thing that makes a guest itself. */
const WHO = `hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 1024 /dev/urandom | md5sum
ip link show eth0 | grep -o 'ether [0-9a-f:]*'; cat /proc/partitions | wc -l; uname -n; ls /lib/modules | wc -l
cat /sys/block/vdb/size; sha256sum < /dev/vdb | cut -c1-64`;

let home: TestHome;
before(async () => {
  home = await TestHome.warm({ memory: MEMORY, image: IMAGE }, { KILN_POOL: `${WANTED}:1x${MEMORY}` });
});
after(() => home[Symbol.asyncDispose]());

const ready = async (): Promise<number> => (await home.json<DaemonStatus>("daemon", "status")).pool[0]?.ready ?? 0;
const full = (): Promise<void> => waitUntil(async () => (await ready()) === WANTED, "a full pool");
const directories = (): Promise<string[]> => readdir(join(home.path, "pool"));

const start = async (name: string, ...flags: string[]): Promise<VmView> => {
  await home.ok("run", "-d", "--name", name, "--memory", MEMORY, ...flags, IMAGE, "--", "busybox", "sleep", "1000000");
  return home.json<VmView>("inspect", name);
};

const who = async (name: string): Promise<string[]> => (await home.ok("exec", name, "--", "busybox", "sh", "-c", WHO)).trim().split("\n");

test("I29 guests of the pool become VMs that share nothing, with their own disks, names and uid", async () => {
  await home.ok("daemon", "start");
  await full();
  const vms = [await start("one"), await start("two")];
  assert.deepEqual(
    vms.map(({ startPath, startReason }) => [startPath, startReason]),
    [
      ["pool", null],
      ["pool", null],
    ],
  );
  const [one, two] = [await who("one"), await who("two")];
  assert.equal(one.length, 10, one.join());
  assert.deepEqual([one[0], one[2], one[4]], ["one", vms[0]?.bootId, `ether ${vms[0]?.network.mac}`]);
  for (const at of [0, 1, 2, 3, 4, 6]) assert.notEqual(one[at], two[at], `line ${at}`);
  const [rootfs = ""] = (await readdir(join(home.path, "rootfs"))).filter((name) => name.endsWith(".ext4"));
  const bytes = await readFile(join(home.path, "rootfs", rootfs));
  const whole = [String(bytes.length / 512), createHash("sha256").update(bytes).digest("hex")];
  assert.deepEqual([one.slice(8), two.slice(8)], [whole, whole]);
  // the rehearsal's disks are gone: two lines of head, and the three of a VM
  assert.deepEqual([one[5], two[5]], ["5", "5"]);
  await home.ok("exec", "one", "--", "busybox", "touch", "/mine");
  assert.equal((await home.kiln(["exec", "two", "--", "busybox", "ls", "/mine"])).code, 1);
  const uids = await Promise.all(
    vms.map(async ({ pid }) => /^Uid:\t(\d+)/m.exec(await readFile(`/proc/${pid}/status`, "latin1"))?.[1] ?? ""),
  );
  if (process.getuid?.() === 0) assert.equal(new Set([...uids, "0"]).size, 3);
});

test("another network than the default takes no guest whose NIC leads out", async () => {
  await full();
  const alone = await start("alone", "--network", "none");
  assert.notEqual(alone.startPath, "pool");
  await home.ok("rm", "-f", "alone");
});

test("I35 I36 kill -9 of the daemon: VMs of the pool live on with their boot, and guests that waited are gone", async () => {
  await full();
  const before = await home.json<VmView>("inspect", "one");
  await home.killDaemon();
  const after = await home.json<VmView>("inspect", "one");
  assert.deepEqual([after.state, after.pid, after.bootId], ["running", before.pid, before.bootId]);
  assert.deepEqual((await who("one"))[2], before.bootId);
  await full();
  assert.equal((await directories()).length, 2 + WANTED);
  await home.ok("stop", "-t", "0", "one");
  await home.ok("start", "one");
  assert.equal((await home.json<VmView>("inspect", "one")).startPath, "pool");
  assert.equal((await home.kiln(["exec", "one", "--", "busybox", "ls", "/mine"])).code, 0);
});

test("a daemon that stops leaves its VMs and nothing of the pool", async () => {
  await home.ok("rm", "-f", "one", "two");
  await full();
  await waitUntil(async () => (await directories()).length === WANTED, "only what is ready");
  await home.ok("daemon", "stop");
  assert.deepEqual(await directories(), []);
  assert.deepEqual(await home.processes(), []);
  await home.ok("daemon", "start");
  await full();
  assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
});
