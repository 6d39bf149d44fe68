import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KilnError, type VmView } from "@kiln/protocol";
import { WIRE } from "@kiln/protocol/wire";
import { type Kiln, Sandbox } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { VMM_LIMITS } from "../../packages/daemon/src/vmm/limits.ts";
import { TestHome, waitUntil } from "./home.ts";

const MIB = 2 ** 20;
const MEMORY_BYTES = 128 * MIB;
const DISK_BYTES = 32 * MIB;
/** Two segments (vm-log.ts). */
const LOG_BYTES = 32 * MIB;
const FLOOD_MS = 2_500;
/** For one that has to have come to something, on a busy machine. */
const PATIENCE_MS = 60_000;
/** What a guest that does something for FLOOD_MS gets of a host that ten others want as well. */
const BUSY_TICKS = 25;
/** Usually some milliseconds: whoever waits so long was held up. */
const NEIGHBOUR_MS = 10_000;
/** What a daemon may need beyond what it needs for quiet VMs: windows and rings of a few hundred KiB a stream, and what its heap holds until it is collected. */
const DAEMON_GROWTH_BYTES = 96 * MIB;
/** Beside the guest's memory: QEMU itself and what it has translated. */
const VMM_BYTES = 256 * MIB;
const IMAGE = "deb:busybox-static";
const SHELL = ["busybox", "sh", "-c"];

describe("a hostile guest", () => {
  let home: TestHome;
  let kiln: Kiln;
  let neighbour: Sandbox;
  let daemonPid = 0;
  let quietBytes = 0;

  const create = (name: string, more: { readonly command?: string[] } = {}): Promise<Sandbox> =>
    Sandbox.create({ kiln, name, image: IMAGE, memoryBytes: MEMORY_BYTES, diskBytes: DISK_BYTES, startMode: "preboot", ...more });

  before(async () => {
    home = await TestHome.warm({ memory: "128m", image: IMAGE });
    await home.ok("images");
    kiln = connect({ home: home.path });
    neighbour = await create("neighbour");
    daemonPid = await home.daemonPid();
    await answersInTime();
    quietBytes = await residentBytes(daemonPid);
  });
  after(async () => {
    kiln[Symbol.dispose]();
    await home[Symbol.asyncDispose]();
  });

  const answersInTime = async (): Promise<void> => {
    const begun = performance.now();
    const { exitCode } = await neighbour.exec(["busybox", "true"]);
    assert.equal(exitCode, 0);
    const ms = performance.now() - begun;
    assert.ok(ms < NEIGHBOUR_MS, `the neighbour answered after ${ms} ms`);
  };

  /** While it lasts, neighbour, daemon and disk are looked at again and again; then the VM is removed like any other. */
  const endure = async (
    hostile: Pick<Sandbox, "id" | "remove">,
    flood: (signal: AbortSignal) => Promise<unknown>,
    { isOne = () => true }: { readonly isOne?: () => boolean } = {},
  ): Promise<void> => {
    const leave = new AbortController();
    const left = new KilnError("CANCELLED", "the flood has lasted long enough");
    const flooding = flood(leave.signal).catch((error: unknown) => {
      if (error !== left) throw error;
    });
    flooding.catch(() => undefined);
    const from = performance.now();
    const lasts = (): boolean => performance.now() < from + FLOOD_MS || (!isOne() && performance.now() < from + PATIENCE_MS);
    const { pid } = await kiln.vms.get(hostile.id);
    assert.ok(pid !== null);
    const quietTicks = await cpuTicks(pid);
    do {
      await answersInTime();
      await requireWithinLimits(hostile.id, pid);
      await sleep(50);
    } while (lasts());
    leave.abort(left);
    await flooding;
    await requireWithinLimits(hostile.id, pid);
    assert.ok((await cpuTicks(pid)) - quietTicks > BUSY_TICKS, "it was a flood");
    await hostile.remove();
    assert.equal(await residentBytes(pid), 0, "its VMM has ended");
    assert.ok(!(await readdir(join(home.path, "vms"))).includes(hostile.id));
    await answersInTime();
  };

  const requireWithinLimits = async (id: string, pid: number): Promise<void> => {
    const daemonBytes = await residentBytes(daemonPid);
    assert.ok(daemonBytes < quietBytes + DAEMON_GROWTH_BYTES, `the daemon grew from ${quietBytes} to ${daemonBytes} bytes`);
    const vmmBytes = await residentBytes(pid);
    assert.ok(vmmBytes < MEMORY_BYTES + VMM_BYTES, `the VMM has ${vmmBytes} bytes`);
    const diskBytes = await bytesBelow(join(home.path, "vms", id));
    assert.ok(diskBytes <= DISK_BYTES + LOG_BYTES + MIB, `its directory has ${diskBytes} bytes`);
  };

  const runs =
    (hostile: Sandbox, script: string) =>
    (signal: AbortSignal): Promise<unknown> =>
      hostile.exec([...SHELL, script], { signal, maxOutputBytes: 1 });

  test("10.3 that writes to its console without end fills what is kept of it, and no more", async () => {
    const hostile = await create("console");
    const line = "x".repeat(200);
    let kept = 0;
    const isFull = (): boolean => kept > VMM_LIMITS.consoleBytes / 2;
    const flood = async (signal: AbortSignal): Promise<void> => {
      const flooding = runs(hostile, `busybox yes ${line} >/dev/ttyS0 & while :; do echo ${line} >/dev/kmsg; done`)(signal);
      flooding.catch(() => undefined);
      while (!isFull() && !signal.aborted) {
        await sleep(FLOOD_MS / 10);
        const chunks = await Array.fromAsync(await kiln.vms.console(hostile.id));
        kept = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      }
      await flooding;
    };
    await endure(hostile, flood, { isOne: isFull });
    assert.ok(isFull() && kept <= VMM_LIMITS.consoleBytes, `${kept} bytes of console`);
  });

  test("10.3 that writes to its log without end has the newest of it kept", async () => {
    const { result } = await kiln.operations.result(
      await kiln.vms.create({
        ...{ image: IMAGE, name: "log", memoryBytes: MEMORY_BYTES, diskBytes: DISK_BYTES, start: true, startMode: "preboot" },
        command: [...SHELL, "busybox yes stderr >&2 & exec busybox yes stdout"],
      }),
    );
    assert.ok(result !== null);
    const remove = async (): Promise<void> => void (await kiln.operations.result(await kiln.vms.remove(result, { force: true })));
    const directory = join(home.path, "vms", result);
    const hasDropped = async (): Promise<boolean> =>
      (await readdir(directory)).filter((name) => /^log\.\d+$/.test(name)).some((name) => Number(name.slice(4)) > 2);
    await endure({ id: result, remove }, () => waitUntil(hasDropped, "the oldest to go"));
  });

  test("10.3 that fills its disk, through its file system and below it, meets its end; what VMs share stays as it was", async () => {
    const before = await digests(home);
    const hostile = await create("disk");
    const path = join(home.path, "vms", hostile.id);
    await endure(hostile, async () => {
      const fill = "busybox dd if=/dev/zero of=/fill bs=1M; busybox sync";
      const below = `for disk in /dev/vd*; do busybox dd if=/dev/urandom of=$disk bs=1M; busybox dd if=/dev/zero of=$disk bs=1M seek=64 count=1; done`;
      const { stderr } = await hostile.exec([...SHELL, `${fill}; ${below}; busybox sync`]);
      assert.match(stderr, /No space left on device/);
      const sizes = await Promise.all(
        (await readdir(path)).filter((name) => name.endsWith(".ext4")).map(async (name) => (await lstat(join(path, name))).size),
      );
      assert.deepEqual(sizes, [DISK_BYTES]);
    });
    assert.deepEqual(await digests(home), before);
  });

  test("10.3 that speaks on its agent's channel as loudly as it can waits for who listens", async () => {
    const hostile = await create("channel");
    let heard = 0;
    const flood = async (signal: AbortSignal): Promise<void> => {
      const port = await hostile.exec([...SHELL, "echo garbage >/dev/vport0p1"], { signal });
      assert.match(port.stderr, /busy|No such|can't create/i, "the agent's port is taken");
      const onOutput = ({ bytes }: { readonly bytes: Uint8Array }): void => void (heard += bytes.length);
      const run = (script: string): Promise<unknown> => hostile.exec([...SHELL, script], { signal, onOutput, maxOutputBytes: 1 });
      const garbage = Array.from({ length: 12 }, () => run("busybox cat /dev/urandom"));
      const errors = Array.from({ length: 4 }, () => run("busybox yes >&2"));
      // nobody reads these
      const unread = Array.from({ length: 4 }, () => kiln.vms.exec(hostile.id, { command: ["busybox", "yes"] }, { signal }));
      for (const { exit, started } of unread) for (const promise of [exit, started]) promise.catch(() => undefined);
      await Promise.all([...garbage, ...errors]);
    };
    await endure(hostile, flood, { isOne: () => heard > WIRE.ringBytes });
    assert.ok(heard > WIRE.ringBytes, `${heard} bytes came`);
  });

  test("10.3 that forks without end", async () => {
    const hostile = await create("forks");
    await endure(hostile, runs(hostile, "bomb() { bomb | bomb & }; bomb; while :; do :; done"));
  });

  test("10.3 that takes all memory that it has", async () => {
    const hostile = await create("memory");
    await endure(hostile, async () => {
      const hog =
        "busybox mount -t tmpfs -o size=100% tmpfs /tmp; busybox dd if=/dev/zero of=/tmp/fill bs=1M; x=a; while :; do x=$x$x; done";
      const { oomKilled, exitCode } = await hostile.exec([...SHELL, hog]);
      assert.ok(oomKilled && exitCode !== 0, `it ended with ${exitCode}`);
    });
  });

  test("10.2 whose kernel it has crashed has failed, and says so", async () => {
    const hostile = await create("crash");
    await assert.rejects(hostile.exec([...SHELL, "echo c >/proc/sysrq-trigger"], { signal: AbortSignal.timeout(PATIENCE_MS) }), KilnError);
    const vm: VmView = await kiln.vms.wait(hostile.id, { signal: AbortSignal.timeout(PATIENCE_MS) });
    assert.equal(vm.state, "failed");
    assert.match(vm.error?.detail ?? "", /panic|ended/i);
    await hostile.remove();
    await answersInTime();
  });
});

/** Hundredths of a second that a process has had a processor: fields 14 and 15 of proc(5)'s stat. */
const cpuTicks = async (pid: number): Promise<number> => {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13)
    .map(Number);
  return user + system;
};

/** 0 for a process that has ended. */
const residentBytes = async (pid: number): Promise<number> => {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
};

const BLOCK_BYTES = 512;
const bytesBelow = async (directory: string): Promise<number> => {
  const names = await readdir(directory, { recursive: true });
  const sizes = await Promise.all(names.map(async (name) => (await lstat(join(directory, name))).blocks * BLOCK_BYTES));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
};

/** Of every file that more than one VM uses. */
const digests = async (home: TestHome): Promise<Readonly<Record<string, string>>> => {
  const found: Record<string, string> = {};
  for (const place of ["rootfs", "kernels", "preboots"]) {
    for (const entry of await readdir(join(home.path, place), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      found[path] = createHash("sha256")
        .update(await readFile(path))
        .digest("hex");
    }
  }
  return found;
};
