import assert from "node:assert/strict";
import { chmod, chown, cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duplexPair, type Duplex } from "node:stream";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock, systemRandom } from "@kiln/std";
import { runTool } from "@kiln/std/node";
import { testKernel, type TestKernel } from "../../../../test/fixtures/kernel.ts";
import { QemuDriver } from "../vmm/qemu/driver.ts";
import type { Vmm } from "../vms/driver.port.ts";
import type { AgentSession } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";
import { build, collect, execSpec, follow, setupOf } from "./test-guest.ts";

const CACHE = fileURLToPath(new URL("../../../../.cache/test-kernel", import.meta.url));
const MIB = 2 ** 20;
/** Nobody's: a VMM never runs as root. */
const VM_UID = 0x5fff_0001;
const signal = AbortSignal.timeout(300_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
const sh = (id: string, script: string) => execSpec({ id, argv: ["sh", "-c", script] });

let home: string;
let kernel: TestKernel;
let vmm: Vmm;
let session: AgentSession;
let steps: Readonly<Record<string, number>>;

/** An image with busybox, the agent's test build, a dangling link where a mount point goes, and no /proc, /dev, /run, /tmp or /lib/modules. */
const writeRootfs = async (): Promise<void> => {
  const root = join(home, "rootfs");
  for (const directory of ["bin", "etc", "usr/lib"]) await mkdir(join(root, directory), { recursive: true });
  await runTool("apt-get", ["download", "busybox-static"], { cwd: home, signal });
  await runTool("sh", ["-c", "dpkg-deb -x busybox-static_*.deb deb"], { cwd: home, signal });
  await cp(join(home, "deb/bin/busybox"), join(root, "bin/busybox"));
  await cp(await build("--test-static"), join(root, "bin/agent-test"));
  for (const name of ["sh", "cat", "echo", "mount", "insmod", "ls", "date", "id", "seq", "sync"])
    await symlink("busybox", join(root, "bin", name));
  await symlink("usr/lib", join(root, "lib"));
  await symlink("../run/resolve/resolv.conf", join(root, "etc/resolv.conf"));
  await writeFile(join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n");
  await writeFile(join(root, "etc/group"), "root:x:0:\nbob:x:1001:\nwheel:x:10:bob\n");
  await runTool("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-d", root, join(home, "root.img"), "16M"], { signal });
  await runTool("mke2fs", ["-q", "-t", "ext4", join(home, "writable.img"), "64M"], { signal });
};

before(async () => {
  home = await mkdtemp(join(tmpdir(), "kiln-agent-guest-"));
  kernel = await testKernel({ signal });
  await writeRootfs();
  const directory = join(home, "vm");
  await mkdir(directory, { mode: 0o700 });
  const uid = process.getuid?.() === 0 ? VM_UID : null;
  await chmod(home, 0o755);
  if (uid !== null) for (const path of [directory, join(home, "writable.img")]) await chown(path, uid, uid);
  const driver = new QemuDriver({ cacheDir: CACHE, stagingDir: join(CACHE, "staging") });
  const disk = (slot: "root" | "writable" | "modules", path: string) => ({ slot, path, readOnly: slot !== "writable" });
  const disks = [disk("root", join(home, "root.img")), disk("writable", join(home, "writable.img")), disk("modules", kernel.modulesImage)];
  vmm = await driver.boot(
    { id: "0123456789ab", cpus: 1, network: null, memoryBytes: 256 * MIB, kernel, disks, directory, uid },
    { signal },
  );
  session = await connector.connect(await vmm.openAgentChannel({ signal }), { epoch: 1, signal });
  const modules = [...kernel.setupModules, ...kernel.manifest.modules.vsock];
  const serials = { root: "root", writable: "writable", modules: "modules" };
  const identity = {
    hostname: "web-1",
    machineId: "0123456789abcdef".repeat(2),
    hosts: "127.0.0.1 localhost\n",
    resolvConf: "nameserver 192.0.2.1\n",
    bootId: "11111111-2222-4333-8444-555555555555",
    network: null,
  };
  steps = await session.setup(
    setupOf({ modules, disks: serials, clockNs: 1_900_000_000n * 10n ** 9n, entropy: systemRandom.bytes(64), ...identity }),
    { signal },
  );
});

after(async () => {
  await vmm?.kill();
  await rm(home, { recursive: true, force: true });
});

test("I27 twenty commands right after the setup all answer", async () => {
  const runs = await Promise.all(Array.from({ length: 20 }, (_, index) => collect(session, sh(`p${index}`, `echo ${index}`))));
  assert.deepEqual(
    runs.map((run) => run.stdout),
    Array.from({ length: 20 }, (_, index) => `${index}\n`),
  );
});

test("setup names its steps and tells the guest who it is", async () => {
  assert.deepEqual(Object.keys(steps).slice(0, 3), ["entropy", "clock", "modules"]);
  const { stdout } = await collect(
    session,
    sh(
      "who",
      "busybox hostname; cat /etc/hostname /etc/machine-id /etc/hosts /etc/resolv.conf /proc/sys/kernel/random/boot_id; date -u +%Y; ls -d /lib/modules/*-*",
    ),
  );
  const words = [
    "web-1",
    "web-1",
    "0123456789abcdef".repeat(2),
    "127.0.0.1 localhost",
    "nameserver 192.0.2.1",
    "11111111-2222-4333-8444-555555555555",
    "2030",
    `/lib/modules/${kernel.manifest.release}`,
  ];
  assert.deepEqual(stdout.trimEnd().split("\n"), words);
});

test("a user of the image runs with its groups, its home, and streams that it may open", async () => {
  const run = await collect(session, { ...sh("bob", "id; echo $HOME; pwd; echo again > /dev/stdout"), user: "bob", cwd: "/home/bob" });
  assert.equal(run.stdout, "uid=1000(bob) gid=1001(bob) groups=10(wheel)\n/home/bob\n/home/bob\nagain\n");
});

test("a command killed for want of memory is reported as such, and the guest goes on", async () => {
  const { status } = await collect(session, sh("oom", "a=x; while :; do a=$a$a$a$a; done"));
  assert.deepEqual([status.oomKilled, status.signal], [true, "SIGKILL"]);
  assert.equal((await collect(session, sh("after", "echo on"))).stdout, "on\n");
});

test("a new channel of the same port finds the commands of the one before", async () => {
  await session.exec(sh("long", "seq 1 100000; sleep 1; echo end"), { signal });
  session = await connector.connect(await vmm.openAgentChannel({ signal }), { epoch: 1, signal });
  assert.deepEqual([session.hello.sessions, session.hello.ready], [2, true]);
  const { stdout } = await follow(session, "long");
  assert.equal(stdout, Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join("") + "end\n");
});

test("I29 the vsock listener serves over the guest's own loopback, and counts its sessions per epoch", async () => {
  const loopback = `/lib/modules/${kernel.manifest.release}/kernel/net/vmw_vsock/vsock_loopback.ko`;
  assert.equal((await collect(session, sh("load", `insmod ${loopback}`))).status.exitCode, 0);
  await session.exec(execSpec({ id: "nested", argv: ["agent-test", "--vsock", "any"] }), { signal });
  const counts: number[] = [];
  for (const [index, epoch] of [1, 1, 2].entries()) {
    await using nested = await connector.connect(await relay(`relay${index}`), { epoch, signal });
    counts.push(nested.hello.sessions);
    await nested.setup(setupOf(), { signal });
    assert.equal((await collect(nested, execSpec({ id: `e${index}`, argv: ["seq", "1", "50000"] }))).stdout.length, 288_894);
  }
  assert.deepEqual(counts, [1, 2, 1]);
});

test("a process of the guest cannot be the host of the guest's vsock listener", async () => {
  await session.sendSignal("nested", "KILL", { signal });
  await follow(session, "nested");
  await session.exec(execSpec({ id: "guarded", argv: ["agent-test", "--vsock", "host"] }), { signal });
  await assert.rejects(connector.connect(await relay("stranger"), { epoch: 1, signal }), { code: "GUEST_AGENT_TIMEOUT" });
});

/** A channel to the listener within the guest, through a command's stdin and stdout. */
const relay = async (id: string): Promise<Duplex> => {
  await session.exec(execSpec({ id, argv: ["agent-test", "--relay", "-"], stdin: true }), { signal });
  const attachment = await session.attach(id, { signal });
  const [host, guest] = duplexPair();
  host.on("close", () => guest.destroy());
  const up = async (): Promise<void> => {
    try {
      const chunks: AsyncIterable<Uint8Array> = guest;
      for await (const bytes of chunks) await attachment.writeStdin(bytes, { signal });
    } finally {
      await attachment.closeStdin();
    }
  };
  const down = async (): Promise<void> => {
    for await (const event of attachment.events) {
      if (event.type === "exit") break;
      guest.write(event.bytes);
      attachment.acknowledge(event.stream, event.offset + event.bytes.length);
    }
    host.destroy();
  };
  void Promise.allSettled([up(), down()]); // either ends by the other's end
  return host;
};

test("I25 power off is acknowledged, leaves the disk clean, and nothing of ours on it", async () => {
  await collect(session, sh("write", "echo kept > /kept; busybox mkdir -p /srv/a"));
  await session.exec(sh("stubborn", "trap '' TERM; while :; do sleep 1; done"), { signal });
  await session.powerOff(300, { signal });
  assert.deepEqual(await vmm.ended, { reason: "guest-shutdown" });
  const disk = join(home, "writable.img");
  await runTool("e2fsck", ["-fn", disk], { signal });
  const superblock = await runTool("dumpe2fs", ["-h", disk], { signal });
  assert.match(Buffer.from(superblock.stdout).toString(), /Filesystem state: +clean\n/);
  assert.doesNotMatch(Buffer.from(superblock.stdout).toString(), /needs_recovery/);
  const listed = await runTool("debugfs", ["-R", "ls -p /upper", disk], { signal });
  const names = Buffer.from(listed.stdout)
    .toString()
    .split("\n")
    .flatMap((line) => line.split("/")[5] ?? []);
  // the cwd of the tests' commands and of bob is made for them, as docker does
  assert.deepEqual(names.filter((name) => ![".", "..", ""].includes(name)).sort(), ["home", "kept", "srv"].sort());
});
