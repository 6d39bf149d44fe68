import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../packages/daemon/src/agent/connector.ts";
import { KernelDirectory } from "../../packages/daemon/src/content/kernel-directory.ts";
import { PrebootDirectory } from "../../packages/daemon/src/content/preboot-directory.ts";
import { createEmptyDisk } from "../../packages/daemon/src/content/rootfs/index.ts";
import { Apt } from "../../packages/daemon/src/host/apt.ts";
import type { PrebootRecord } from "../../packages/daemon/src/snapshots/preboot.ts";
import { homePaths } from "../../packages/daemon/src/store/home.ts";
import { QemuDriver } from "../../packages/daemon/src/vmm/qemu/driver.ts";
import { setupOf } from "./bare-agent.ts";
import { ROOT } from "./home.ts";

const UID = 0x5fff_fffd;
const DISK_BYTES = 8 * 2 ** 30;
const signal = new AbortController().signal;

export interface BareRestore extends AsyncDisposable {
  /** Milliseconds by step, from the driver's call to the first byte of a command's output. */
  start(rootfs: string, argv: readonly string[]): Promise<Readonly<Record<string, number>>>;
}

/**
 * Starts guests from the pre-boot snapshot that `home` has, with the disks that a VM of it would have and nothing of Kiln
 * above driver and agent: no daemon, no records, no network. The disk is made before.
 */
export const openBareRestore = async (home: string, shape: { cpus: number; memoryBytes: number; accel: string }): Promise<BareRestore> => {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "kiln-bench-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const paths = homePaths(home);
  const record = findPreboot(paths.database, shape);
  const files = undo.use(
    new PrebootDirectory({
      ...{ directory: paths.preboots, stagingDir: directory },
      program: process.env["KILN_HELPER"] ?? join(ROOT, ".cache/agent/kiln-descriptors"),
    }),
  );
  const saved = undo.use(await files.open(record, { signal }));
  const kernels = new KernelDirectory({
    ...{ directory: paths.kernels, stagingDir: directory, agentPath: "", clock: systemClock },
    apt: new Apt({ stagingDir: directory, clock: systemClock }),
  });
  const kernel = await kernels.open(record.kernelKey);
  const driver = new QemuDriver({ cacheDir: directory, stagingDir: directory, accel: shape.accel === "kvm" ? "kvm" : "tcg" });
  const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
  const uid = process.getuid?.() === 0 ? UID : null;
  const start = async (rootfs: string, argv: readonly string[]): Promise<Readonly<Record<string, number>>> => {
    await using after = new AsyncDisposableStack();
    const place = join(directory, randomUUID().slice(0, 8));
    await mkdir(place, { mode: 0o700 });
    after.defer(() => rm(place, { recursive: true, force: true }));
    const writable = join(place, "writable.ext4");
    await createEmptyDisk({ path: writable, sizeBytes: DISK_BYTES, uuid: randomUUID() }, { signal });
    const disks = [
      { slot: "root" as const, path: rootfs, readOnly: true },
      { slot: "writable" as const, path: writable, readOnly: false },
      { slot: "modules" as const, path: kernel.modulesImage, readOnly: true },
    ];
    const { cpus, memoryBytes } = shape;
    const steps: Record<string, number> = {};
    const began = performance.now();
    let last = began;
    const step = (name: string): void => {
      const now = performance.now();
      steps[name] = now - last;
      last = now;
    };
    const vmm = await driver.restore({ id: "bench", cpus, memoryBytes, kernel, disks, network: null, directory: place, uid }, saved, {
      signal,
    });
    after.defer(() => vmm.kill());
    step("restore");
    const session = after.use(await connector.connect(await vmm.openAgentChannel({ signal }), { epoch: 1, signal }));
    step("agent");
    const within = await session.setup({ ...setupOf([]), disks: { root: "root", writable: "writable", modules: "modules" } }, { signal });
    step("setup");
    const exec = { id: "first", argv, env: [], cwd: "/", user: "", tty: null, stdin: false, overflow: "block" as const };
    const [, attachment] = await Promise.all([session.exec(exec, { signal }), session.attach(exec.id, { signal })]);
    after.use(attachment);
    for await (const event of attachment.events) if (event.type === "output") break;
    step("exec");
    const setup = Object.fromEntries(Object.entries(within).map(([name, ms]): [string, number] => [`setup.${name}`, ms]));
    // what the agent does to a NIC that leads nowhere is no part of a floor
    return { ...steps, ...setup, total: last - began - (within["network"] ?? 0) };
  };
  const owned = undo.move();
  return { start, [Symbol.asyncDispose]: () => owned.disposeAsync() };
};

/** The newest one of the shape, as the home's daemon recorded it. */
const findPreboot = (database: string, { cpus, memoryBytes }: { cpus: number; memoryBytes: number }): PrebootRecord => {
  using reader = new DatabaseSync(database, { readOnly: true });
  const rows = reader.prepare("SELECT record FROM preboots ORDER BY created_at DESC").all();
  const records = rows.map(({ record }) => JSON.parse(String(record)) as PrebootRecord);
  const found = records.find((one) => one.cpus === cpus && one.memoryBytes === memoryBytes);
  if (found === undefined) throw new Error(`${database} has no pre-boot snapshot of ${cpus} CPUs and ${memoryBytes} bytes`);
  return found;
};
