import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { chown, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock, systemRandom } from "@kiln/std";
import { loadSealedMemory, mapMemory } from "../../content/sealed-memory.ts";
import { createEmptyDisk } from "../../content/rootfs/index.ts";
import { createAgentConnector } from "../../agent/connector.ts";
import type { AgentSession, GuestSetup } from "../../vms/agent.port.ts";
import { type DiskSlot, type DiskSpec, MET_SLOTS, type SavedVmm, type SaveTarget, type Vmm, type VmmSpec } from "../../vms/driver.port.ts";
import { launchQemu } from "./launch.ts";
import { Migration } from "./migration.ts";
import type { QmpEvent } from "./qmp.ts";
import { BOOT_MS, openQemuStage, type QemuStage } from "./stage.fixture.ts";
import { QemuVmm } from "./vmm.ts";

const MIB = 2 ** 20;
/** How long the agent waits for a disk that it has met (guest/agent/src/disks.c). */
const TOLD_WITHIN_MS = 1000;
const HELPER = join(import.meta.dirname, "../../../../../.cache/agent/kiln-descriptors");
const [ROOT, WRITABLE] = MET_SLOTS;
const signal = AbortSignal.timeout(8 * BOOT_MS);

let stage: QemuStage;
let saved: SavedVmm & AsyncDisposable;
before(async () => {
  stage = await openQemuStage();
  saved = await savePrepared("told", asTheDriver);
});
after(async () => {
  await saved[Symbol.asyncDispose]();
  await stage[Symbol.asyncDispose]();
});

const connect = async (vmm: Vmm, epoch: number): Promise<AgentSession> =>
  createAgentConnector({ clock: systemClock, random: systemRandom, helloMs: BOOT_MS }).connect(await vmm.openAgentChannel({ signal }), {
    ...{ epoch, signal },
  });

interface Saving {
  readonly vmm: Vmm;
  readonly save: () => Promise<void>;
}

/** A guest that has met its disks, saved by `begin`'s way. */
const savePrepared = async (id: string, begin: (spec: VmmSpec, target: SaveTarget) => Promise<Saving>) => {
  const target = { memory: join(stage.home, `${id}.memory`), state: join(stage.home, `${id}.state`) };
  for (const path of [target.memory, target.state]) await writeFile(path, "", { mode: 0o600 });
  const { vmm, save } = await begin(await stage.spec(id), target);
  const session = await connect(vmm, 0);
  const { setupModules, networkModules } = stage.kernel;
  const metDisks = { root: ROOT, writable: WRITABLE };
  await session.prepare({ modules: [...setupModules, ...networkModules], modulesDisk: "modules", metDisks, network: null }, { signal });
  await session[Symbol.asyncDispose]();
  await save();
  const map = await mapMemory(target.memory, { signal });
  const memory = await loadSealedMemory({ path: target.memory, map }, { program: HELPER, signal });
  return { memory: memory.descriptor, state: target.state, [Symbol.asyncDispose]: () => memory[Symbol.asyncDispose]() };
};

const asTheDriver = async (spec: VmmSpec, target: SaveTarget): Promise<Saving> => {
  const vmm = await stage.driver.bootToSave(spec, target, { signal });
  return { vmm, save: () => vmm.save({ signal }) };
};

/** The same, but for what the driver lets the devices say. */
const inSilence = async (spec: VmmSpec, target: SaveTarget): Promise<Saving> => {
  await truncate(target.memory, spec.memoryBytes);
  if (spec.uid !== null) for (const path of [target.memory, spec.directory]) await chown(path, spec.uid, spec.uid);
  const migration = new Migration();
  const onEvent = (event: QmpEvent): void => migration.takeEvent(event);
  const plan = { binary: "qemu-system-x86_64", spec, accel: "tcg" as const, group: null, onEvent };
  const launched = await launchQemu({ ...plan, begin: { from: "kernel", memory: target.memory } }, { clock: systemClock, signal });
  const { process, qmp, directory } = launched;
  const ref = { driver: "qemu", vmId: spec.id, identity: process.identity, directory: spec.directory, accel: "tcg", uid: spec.uid };
  const vmm = new QemuVmm({ process, qmp, ref, clock: systemClock });
  const to = { directory: spec.directory, descriptor: directory ?? -1, uid: spec.uid, target: target.state };
  const save = async (): Promise<void> => {
    await qmp.run("stop", {}, { signal });
    await migration.send(qmp, to, { signal });
    await vmm.kill();
  };
  return { vmm, save };
};

const disk = async (slot: DiskSlot, sizeBytes: number): Promise<DiskSpec> => {
  const path = join(stage.home, `${slot}-${randomUUID()}`);
  await createEmptyDisk({ path, sizeBytes, uuid: randomUUID() }, { signal });
  return { slot, path, readOnly: slot === ROOT };
};

const disksOf = async (rootBytes: number, writableBytes: number): Promise<DiskSpec[]> => [
  await disk(ROOT, rootBytes),
  await disk(WRITABLE, writableBytes),
];

const setup = (): GuestSetup => ({
  ...{ modules: [], disks: { root: ROOT, writable: WRITABLE, modules: "modules" }, network: null },
  ...{ hostname: "met", machineId: "0".repeat(32), hosts: "", resolvConf: "", bootId: randomUUID() },
  clockNs: BigInt(Date.now()) * 1_000_000n,
  entropy: systemRandom.bytes(64),
});

/** ext4 refuses a disk that is smaller than it was made for: setup succeeds with the sizes known. Whether a disk was looked at anew. */
const setUp = async (vmm: Vmm): Promise<boolean> => {
  const session = await connect(vmm, 1);
  const steps = await session.setup(setup(), { signal });
  assert.ok("root" in steps && "writable" in steps);
  await session[Symbol.asyncDispose]();
  await vmm.kill();
  // as long as it waits to be told, whatever the machine does besides
  return (steps["root"] ?? 0) >= TOLD_WITHIN_MS;
};

test("VMs that start from a guest which had met its disks find their own there, of whatever size", { timeout: 4 * BOOT_MS }, async () => {
  for (const sizes of [
    [8 * MIB, 2048 * MIB],
    [64 * MIB, 16 * MIB],
  ] as const) {
    const spec = await stage.spec(`restored-${sizes[0]}`);
    const disks = [...spec.disks, ...(await disksOf(...sizes))];
    assert.equal(await setUp(await stage.driver.restore({ ...spec, disks }, saved, { signal })), false);
  }
});

test("a guest that has run without them is told when they are there", { timeout: 2 * BOOT_MS }, async () => {
  const vmm = await stage.driver.restoreOpen(await stage.spec("open"), saved, { signal });
  const session = await connect(vmm, 0);
  await session.ping({ signal });
  await session[Symbol.asyncDispose]();
  await vmm.pause({ signal });
  await vmm.attach(await disksOf(8 * MIB, 32 * MIB), { signal });
  await vmm.resume({ signal });
  assert.equal(await setUp(vmm), false);
});

test("a guest that nobody has told looks anew by itself", { timeout: 4 * BOOT_MS }, async () => {
  await using untold = await savePrepared("untold", inSilence);
  const spec = await stage.spec("looks");
  const disks = [...spec.disks, ...(await disksOf(8 * MIB, 32 * MIB))];
  assert.equal(await setUp(await stage.driver.restore({ ...spec, disks }, untold, { signal })), true);
});
