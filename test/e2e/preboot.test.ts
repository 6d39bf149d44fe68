import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import type { DfReport, OperationView, VmView } from "@kiln/protocol";
import type { CommandSession, Kiln } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:python3-minimal,busybox-static";
const SMALL = "deb:busybox-static";
const MIB = 2 ** 20;
const MEMORY_BYTES = 128 * MIB;
const MEMORY = "128m";
const VMS = 10;
const AT_ONCE = 4;
const CLOCK_MS = 50;
/** Where x86 kernels are loaded: what is not zero there, the guest needs. */
const KERNEL_AT = 16 * MIB;

/** The first that runs of an image, so that nothing has mixed anything but the agent. Each line is a name and a value. */
const PROBE = `
say() { echo "$1 $2"; }
hex() { busybox hexdump -v -e '1/1 "%02x"' "$@"; }
say shell-urandom "$(hex -n 1024 /dev/urandom)"
say hostname "$(busybox hostname)"
say machine-id "$(busybox cat /etc/machine-id)"
say boot-id "$(busybox cat /proc/sys/kernel/random/boot_id)"
busybox mkdir /tmp/proc && busybox mount -t proc proc /tmp/proc
say kernel-boot-id "$(busybox cat /tmp/proc/sys/kernel/random/boot_id)"
say uuid "$(busybox cat /proc/sys/kernel/random/uuid)"
say layout "$(busybox grep -E 'stack|vdso|heap' /proc/self/maps | busybox cut -d' ' -f1 | busybox tr '\\n' ,)"
say mac "$(busybox ip link show eth0 | busybox grep -o 'ether [0-9a-f:]*' | busybox cut -d' ' -f2)"
python3 -c '
import os, random
print("python-urandom", os.urandom(1024).hex())
print("python-getrandom", os.getrandom(1024).hex())
print("python-seed", random.getrandbits(256))
print("python-hash", hash("kiln"))'
echo done
exec busybox sleep 1000000
`;

/** Says the guest's time for each line that it reads. */
const CLOCK = "import sys,time\nfor _ in sys.stdin: print(time.time_ns(), flush=True)";

let home: TestHome;
before(async () => {
  home = await TestHome.warm({ memory: MEMORY, image: IMAGE });
  await home.ok("kernel", "warm", "--cpus", "1", "--memory", MEMORY);
});
after(() => home[Symbol.asyncDispose]());

const start = async (name: string, ...args: string[]): Promise<VmView> => {
  await home.ok("run", "-d", "--name", name, "--memory", MEMORY, "--disk", "64m", ...args);
  return home.json<VmView>("inspect", name);
};

const idle = (name: string, ...flags: string[]): Promise<VmView> => start(name, ...flags, SMALL, "--", "busybox", "sleep", "1000000");

/** A VM whose command is the probe. */
const startProbe = async (kiln: Kiln, name: string): Promise<void> => {
  const command = ["busybox", "sh", "-c", PROBE];
  const shape = { memoryBytes: MEMORY_BYTES, diskBytes: 64 * MIB, startMode: "preboot" as const };
  await kiln.operations.result(await kiln.vms.create({ image: IMAGE, name, command, start: true, ...shape }));
};

/** What the VM has printed in all its epochs; the newest comes last, and is whole. */
const probed = async (kiln: Kiln, name: string): Promise<readonly string[]> => {
  const decoder = new TextDecoder();
  let text = "";
  const { epoch } = await kiln.vms.get(name);
  for await (const { bytes } of kiln.vms.logs(name, { follow: true })) {
    text += decoder.decode(bytes, { stream: true });
    if (text.split("done\n").length > epoch) break;
  }
  return text.split("\n");
};

/** What makes a VM itself, as its guest and as the daemon say it. */
const identity = async (kiln: Kiln, name: string): Promise<Readonly<Record<string, string>>> => {
  const said = Object.fromEntries(
    (await probed(kiln, name)).filter((line) => line.includes(" ")).map((line) => line.split(" ") as [string, string]),
  );
  await using session = kiln.vms.exec(name, { command: ["busybox", "hexdump", "-v", "-n", "1024", "-e", '1/1 "%02x"', "/dev/urandom"] });
  let agent = "";
  for await (const { bytes } of session) agent += new TextDecoder().decode(bytes);
  await session.exit;
  const vm = await kiln.vms.get(name);
  assert.deepEqual([vm.startPath, vm.startReason], ["preboot", null]);
  assert.equal(said["mac"], vm.network.mac);
  assert.equal(said["boot-id"], vm.bootId);
  for (const random of ["shell-urandom", "python-urandom", "python-getrandom"])
    assert.match(said[random] ?? "", /^[0-9a-f]{2048}$/, random);
  assert.match(agent, /^[0-9a-f]{2048}$/);
  assert.ok(vm.pid !== null);
  return { ...said, "agent-urandom": agent, id: vm.id, "host-uid": await uidOfNobody(vm.pid) };
};

/** Of a VMM that can do nothing but run its guest. */
const uidOfNobody = async (pid: number): Promise<string> => {
  const status = await readFile(`/proc/${pid}/status`, "latin1");
  const [, uid = "0"] = /^Uid:\t(\d+)\t\1\t\1\t\1$/m.exec(status) ?? [];
  assert.notEqual(uid, "0");
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) assert.match(status, new RegExp(`^${set}:\t0{16}$`, "m"));
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, /^Seccomp:\t2$/m);
  // a daemon that is not root has one uid for all
  return process.getuid?.() === 0 ? uid : String(pid);
};

const requireDistinct = (all: readonly Readonly<Record<string, string>>[]): void => {
  const names = Object.keys(all[0] ?? {});
  assert.equal(names.length, 15, names.join());
  for (const name of names) {
    const values = all.map((one) => one[name]);
    assert.equal(new Set(values).size, all.length, `${name}: ${values.filter((value, at) => values.indexOf(value) !== at).join()}`);
  }
  // no piece of one random stream is one of another: 1 KiB each, in pieces of 16 bytes
  const pieces = all.flatMap((one) => names.filter((name) => /random/.test(name)).flatMap((name) => one[name]?.match(/.{32}/g) ?? []));
  assert.equal(new Set(pieces).size, pieces.length);
  assert.equal(pieces.length, all.length * 4 * 64);
};

/** Milliseconds by which a guest's clock is off, from the answer that came fastest, and how wrong that may be. */
const clockError = async (session: CommandSession): Promise<{ offMs: number; unsureMs: number }> => {
  const encoder = new TextEncoder();
  const chunks = session[Symbol.asyncIterator]();
  let best = { offMs: Infinity, unsureMs: Infinity };
  for (let round = 0; round < 20; round += 1) {
    const begun = performance.now();
    await session.write(encoder.encode("\n"));
    const next = await chunks.next();
    const ended = performance.now();
    assert.ok(next.done !== true);
    const guestMs = Number(new TextDecoder().decode(next.value.bytes).trim()) / 1e6;
    const unsureMs = (ended - begun) / 2;
    if (unsureMs < best.unsureMs) best = { offMs: guestMs - (performance.timeOrigin + begun + unsureMs), unsureMs };
  }
  await session.endStdin();
  await session.exit;
  return best;
};

const inTurns = async <Item, Result>(items: readonly Item[], work: (item: Item) => Promise<Result>): Promise<readonly Result[]> => {
  const results: Result[] = [];
  const rest = items.entries();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const [at, item] of rest) results[at] = await work(item);
    }),
  );
  return results;
};

test("I31 VMs that were restored from one snapshot share no name, no address, no random number, and have the right time; also after the daemon's restart", async () => {
  const names = Array.from({ length: VMS }, (_, index) => `vm-${index}`);
  using kiln = connect({ home: home.path });
  const begin = (name: string): Promise<void> => startProbe(kiln, name);
  const look = (name: string) => identity(kiln, name);
  await inTurns(names, begin);
  const first = await inTurns(names, look);
  requireDistinct(first);
  const errors = await inTurns(names.slice(0, 4), async (name) => {
    await using session = kiln.vms.exec(name, { command: ["python3", "-c", CLOCK], stdin: true });
    session.exit.catch(() => undefined); // what is wrong is seen below
    return await clockError(session);
  });
  for (const { offMs, unsureMs } of errors) assert.ok(Math.abs(offMs) < CLOCK_MS + unsureMs, `off by ${offMs} ± ${unsureMs} ms`);
  await home.ok("daemon", "restart");
  const later = ["later-0", "later-1", "later-2", "later-3"];
  await inTurns(later, begin);
  await home.ok("stop", "-t", "0", "vm-0");
  await home.ok("start", "vm-0");
  const second = await inTurns([...later, "vm-0"], look);
  requireDistinct([...first.slice(1), ...second]);
  const [before, again] = [first[0], second.at(-1)];
  for (const name of ["hostname", "machine-id", "mac", "id"]) assert.equal(again?.[name], before?.[name], name);
  for (const name of ["boot-id", "kernel-boot-id", "uuid", "shell-urandom", "python-seed"])
    assert.notEqual(again?.[name], before?.[name], name);
  assert.equal((await builds()).length, 1, "all from one snapshot");
  await home.ok("rm", "-f", ...names, ...later);
});

const builds = async (): Promise<readonly OperationView[]> =>
  (await home.json<OperationView[]>("op", "ls", "-a")).filter(({ kind, joined }) => kind === "preboot.build" && joined === null);

test("I7 a restored guest has its own disks, all of each, at their sizes; and nobody writes to an image", async () => {
  const say = "busybox sha256sum < /dev/vdb | busybox cut -c1-64; busybox cat /sys/block/vdb/size /sys/block/vdc/size";
  const probe = `${say}; busybox dd if=/dev/zero of=/dev/vdb count=1 conv=fsync 2>/dev/null`;
  const seen = new Map<string, number>();
  const disks = [64, 96] as const;
  for (const [at, image] of [SMALL, IMAGE].entries()) {
    const name = `disks-${at}`;
    await home.ok("run", "-d", "--name", name, "--memory", MEMORY, "--disk", `${disks[at]}m`, image, "--", "busybox", "sleep", "1000000");
    assert.equal((await home.json<VmView>("inspect", name)).startPath, "preboot");
    const { code, stdout } = await home.kiln(["exec", name, "--", "busybox", "sh", "-c", probe]);
    assert.notEqual(code, 0, "the image's disk was written to");
    const [hash = "", root, writable] = stdout.trim().split("\n");
    assert.equal(Number(writable) * 512, (disks[at] ?? 0) * MIB);
    seen.set(hash, Number(root) * 512);
    await home.ok("rm", "-f", name);
  }
  const names = (await readdir(join(home.path, "rootfs"))).filter((name) => name.endsWith(".ext4"));
  const known = await Promise.all(names.map((name) => readFile(join(home.path, "rootfs", name))));
  const sizes = new Map(known.map((bytes) => [createHash("sha256").update(bytes).digest("hex"), bytes.length]));
  assert.equal(seen.size, 2);
  for (const [hash, size] of seen) assert.equal(sizes.get(hash), size, hash);
});

test("I27 ten commands at once right after a restore: all answer", async () => {
  await idle("quick", "--start", "preboot");
  const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => home.ok("exec", "quick", "busybox", "echo", String(index))));
  assert.deepEqual(
    answers,
    Array.from({ length: 10 }, (_, index) => `${index}\n`),
  );
  await home.ok("rm", "-f", "quick");
});

describe("a snapshot that cannot be used", () => {
  /** Started by a daemon that has not loaded it: cold for a reason, and the next VM is restored from a new one. */
  const becomesNew = async (name: string, reason: RegExp): Promise<void> => {
    const before = (await builds()).length;
    const vm = await idle(name);
    assert.equal(vm.startPath, "cold");
    assert.match(vm.startReason ?? "", reason);
    await waitUntil(async () => (await builds()).filter(({ state }) => state === "succeeded").length === before + 1, "a new snapshot");
    const next = await idle(`${name}-next`);
    assert.deepEqual([next.startPath, next.startReason], ["preboot", null]);
    await home.ok("rm", "-f", name, `${name}-next`);
    await requireNoStrays();
  };

  test("I7 I34 a memory with one other byte is noticed", async () => {
    await home.ok("daemon", "stop");
    await changeByte(join(await snapshot(), "memory"), KERNEL_AT);
    await becomesNew("changed", /cannot be used: .*is not what was saved/);
  });

  test("I30 a state that QEMU refuses ends in a cold boot with QEMU's words", async () => {
    await home.ok("daemon", "stop");
    const directory = await snapshot();
    const state = Buffer.from(await readFile(join(directory, "state")));
    state.write("not what QEMU reads", 0);
    await writeFile(join(directory, "state"), state);
    forgeRecord(state);
    await becomesNew("refused", /restore failed: .*could not be restored: QEMU ended with exit code 1: .*Not a migration stream/s);
  });

  test("I19 a VMM that is killed while it takes up a snapshot is cleared away", async () => {
    const begun = idle("killed");
    const kill = async (): Promise<boolean> => {
      const [vm] = (await home.json<VmView[]>("ps", "-a")).filter(({ name }) => name === "killed");
      const pids = vm === undefined ? [] : await vmms(vm.id);
      for (const pid of pids) process.kill(pid, "SIGKILL");
      return pids.length > 0;
    };
    await waitUntil(kill, "its VMM");
    const vm = await begun;
    assert.equal(vm.startPath, "cold", "it was killed before it had started");
    assert.match(vm.startReason ?? "", /^the restore failed: ./);
    assert.equal((await vmms(vm.id)).length, 1);
    await home.ok("rm", "-f", "killed");
    await waitUntil(async () => (await builds()).every(({ state }) => state !== "running" && state !== "queued"), "the build behind it");
    await requireNoStrays();
  });
});

describe("a build that is broken off", () => {
  /** Each of a shape that no other test has. */
  const begin = async (memory: string): Promise<number> => {
    await home.ok("run", "-d", "--name", `cold-${memory}`, "--memory", memory, "--disk", "64m", SMALL, "--", "busybox", "sleep", "1000000");
    let pids: readonly number[] = [];
    await waitUntil(async () => (pids = await vmms("preboot")).length > 0, "the guest that is to be saved");
    const [pid] = pids;
    assert.ok(pid !== undefined);
    await waitUntil(async () => /^Seccomp:\t2$/m.test(await readFile(`/proc/${pid}/status`, "latin1")), "QEMU's sandbox");
    assert.notEqual(await uidOfNobody(pid), await uidOfNobody((await home.json<VmView>("inspect", `cold-${memory}`)).pid ?? 0));
    return pid;
  };
  const latest = async (): Promise<OperationView | undefined> =>
    (await builds()).toSorted((one, other) => (one.startedAt < other.startedAt ? 1 : -1))[0];

  test("I13 its VMM is killed: it has failed with what is known, and leaves nothing", async () => {
    process.kill(await begin("192m"), "SIGKILL");
    await waitUntil(async () => (await latest())?.state === "failed", "the build's end");
    assert.match((await latest())?.error?.detail ?? "", /SIGKILL|closed|ended/);
    assert.equal((await home.json<VmView>("inspect", "cold-192m")).state, "running");
    await home.ok("rm", "-f", "cold-192m");
    await requireNoStrays();
  });

  test("I35 its daemon is killed: the next one leaves no VMM and no file of it, and builds again", async () => {
    await begin("256m");
    await home.killDaemon();
    await home.ok("daemon", "start");
    await requireNoStrays();
    await home.ok("rm", "-f", "cold-256m");
    await home.ok("run", "--rm", "--start", "preboot", "--memory", "256m", SMALL, "--", "busybox", "true");
    assert.equal((await latest())?.state, "succeeded");
  });

  test("its daemon is stopped: nothing runs on but VMs", async () => {
    await begin("320m");
    await home.ok("daemon", "stop");
    assert.deepEqual(await vmms("preboot"), []);
    assert.deepEqual(await readdir(join(home.path, "staging")), []);
    await home.ok("rm", "-f", "cold-320m");
    await requireNoStrays();
  });
});

test("I35 switched off for a while, it is kept; and it goes with its home's kernel only", async () => {
  const directory = await snapshot();
  await home.ok("daemon", "stop");
  assert.equal((await home.kiln(["daemon", "start"], { env: { KILN_PREBOOT: "off" } })).code, 0);
  const vm = await idle("off");
  assert.deepEqual([vm.startPath, vm.startReason], ["cold", "pre-boot snapshots are switched off"]);
  await home.ok("rm", "-f", "off");
  await home.ok("daemon", "restart");
  assert.equal((await stat(directory)).mode & 0o777, 0o700);
  assert.equal((await idle("on")).startPath, "preboot");
  await home.ok("rm", "-f", "on");
});

/** Of the shape that these tests share. */
const snapshot = async (): Promise<string> => {
  for (const key of await readdir(join(home.path, "preboots"))) {
    const directory = join(home.path, "preboots", key);
    if ((await stat(join(directory, "memory"))).size === MEMORY_BYTES) return directory;
  }
  throw new assert.AssertionError({ message: "there is no snapshot" });
};

const changeByte = async (path: string, at: number): Promise<void> => {
  await using file = await open(path, "r+");
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, at);
};

/** As if exactly this had been saved. */
const forgeRecord = (state: Uint8Array): void => {
  using database = new DatabaseSync(join(home.path, "kiln.db"));
  const sha256 = createHash("sha256").update(state).digest("hex");
  const set =
    "UPDATE preboots SET record = json_set(record, '$.state.sha256', ?, '$.state.size', ?) WHERE json_extract(record, '$.memoryBytes') = ?";
  assert.equal(database.prepare(set).run(sha256, state.length, MEMORY_BYTES).changes, 1);
};

/** Of a VM by its id, and in this home. */
const vmms = async (id: string): Promise<readonly number[]> => {
  const pids = await home.processes();
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environment = (await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "")).split("\0");
      return environment.includes(`KILN_VM=${id}`) ? [pid] : [];
    }),
  );
  return found.flat();
};

/** The daemon and its VMs, and nothing in the home that belongs to nobody. */
const requireNoStrays = async (): Promise<void> => {
  const running = (await home.json<VmView[]>("ps")).map(({ id }) => id);
  for (const pid of await home.processes()) {
    const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
    const id = /KILN_VM=([^\0]+)/.exec(environment)?.[1];
    assert.ok(id === undefined || running.includes(id), `a VMM of ${id} runs`);
  }
  assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
  assert.deepEqual(await readdir(join(home.path, "staging")), []);
};
