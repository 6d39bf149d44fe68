import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../../packages/daemon/src/agent/connector.ts";
import { createEmptyDisk } from "../../packages/daemon/src/content/rootfs/index.ts";
import { QemuDriver } from "../../packages/daemon/src/vmm/qemu/driver.ts";
import type { AgentSession } from "../../packages/daemon/src/vms/agent.port.ts";
import { testKernel } from "../fixtures/kernel.ts";

const UID = 0x5fff_fffe;
const DISK_BYTES = 2 ** 30;
const signal = new AbortController().signal;

export interface BareAgent extends AsyncDisposable {
  /** Milliseconds from the request to the command's exit, less one round trip of the channel. */
  exec(argv: readonly string[]): Promise<number>;
}

/** A guest with the agent and nothing of Kiln above it: no daemon, no API, no SDK. Boots the image that `home` has. */
export const openBareAgent = async (home: string): Promise<BareAgent> => {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "kiln-bench-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const [rootfs] = await readdir(join(home, "rootfs"));
  if (rootfs === undefined) throw new Error(`there is no rootfs in ${home}`);
  const writable = join(directory, "writable.ext4");
  await createEmptyDisk({ path: writable, sizeBytes: DISK_BYTES, uuid: randomUUID() }, { signal });
  const kernel = await testKernel({ signal });
  await mkdir(join(directory, "vm"), { mode: 0o700 });
  const driver = new QemuDriver({ cacheDir: directory, stagingDir: directory });
  const disks = [
    { slot: "root" as const, path: join(home, "rootfs", rootfs), readOnly: true },
    { slot: "writable" as const, path: writable, readOnly: false },
  ];
  const uid = process.getuid?.() === 0 ? UID : null;
  const spec = { id: "bench", cpus: 1, memoryBytes: 512 * 2 ** 20, kernel, disks, network: null, directory: join(directory, "vm"), uid };
  const vmm = await driver.boot(spec, { signal });
  undo.defer(() => vmm.kill());
  const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
  const session = undo.use(await connector.connect(await vmm.openAgentChannel({ signal }), { epoch: 1, signal }));
  await session.setup(setupOf(kernel.setupModules), { signal });
  const owned = undo.move();
  return { exec: (argv) => exec(session, argv), [Symbol.asyncDispose]: () => owned.disposeAsync() };
};

export const setupOf = (modules: readonly string[]) => ({
  modules,
  disks: { root: "root", writable: "writable", modules: null },
  ...{
    hostname: "bench",
    machineId: "0".repeat(32),
    hosts: "",
    resolvConf: "",
    bootId: "11111111-2222-4333-8444-555555555555",
    network: null,
  },
  clockNs: BigInt(Date.now()) * 1_000_000n,
  entropy: systemRandom.bytes(64),
});

const exec = async (session: AgentSession, argv: readonly string[]): Promise<number> => {
  const id = randomUUID();
  const pinged = performance.now();
  await session.ping({ signal });
  const began = performance.now();
  const spec = { id, argv, env: [], cwd: "/", user: "", tty: null, stdin: false, overflow: "block" as const };
  const [, attachment] = await Promise.all([session.exec(spec, { signal }), session.attach(id, { signal })]);
  for await (const event of attachment.events) if (event.type === "exit") break;
  const ms = performance.now() - began - (began - pinged);
  await attachment[Symbol.asyncDispose]();
  await session.forget(id, { signal });
  return ms;
};
