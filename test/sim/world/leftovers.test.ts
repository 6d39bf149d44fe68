import assert from "node:assert/strict";
import { test } from "node:test";
import type { Digest } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { firstRecord } from "../../../packages/daemon/src/operations/operations.ts";
import { Scheduler } from "../scheduler.ts";
import { create } from "./live.fixture.ts";
import { type SimDaemon, SimWorld } from "./world.ts";

const { signal } = new AbortController();
const MIB = 2 ** 20;
const DIGEST = `sha256:${"0".repeat(64)}` as Digest;
const ROOTFS = { key: "k", digest: DIGEST, createdAt: "", fingerprint: { size: 0, ino: "0", mtimeNs: "0", ctimeNs: "0" } };

interface Planted {
  readonly world: SimWorld;
  readonly daemon: SimDaemon;
  readonly core: Core;
}

const file =
  (path: string) =>
  ({ world }: Planted) =>
    world.disk.create(path);
const acquire = ({ core }: Planted) => core.boots.acquire({ caller: "", signal, position: () => undefined });

/** By the words that each is found under. */
const PLANTS: Readonly<Record<string, (planted: Planted) => unknown>> = {
  "staging: daemon 7.left": file("/home/kiln/staging/daemon 7.left"),
  "directory of a VM: left": file("/home/kiln/vms/left/."),
  "directory of the pool: left": file("/home/kiln/pool/left/scratch.ext4"),
  "blob: left": file("/home/kiln/content/sha256/left"),
  "rootfs: left.ext4": file("/home/kiln/rootfs/left.ext4"),
  "kernel set without a record: left": file("/home/kiln/kernels/left/vmlinux"),
  "pre-boot snapshot without a record: left": file("/home/kiln/preboots/left/state"),
  "guest: left in /somewhere": ({ world }) =>
    world.host.start({ id: "left", directory: "/somewhere", cpus: 1, memoryBytes: MIB, disks: [], network: null, uid: null } as never),
  "port: 127.0.0.1:80/tcp": ({ core }) =>
    core.ports.open("left" as never, { hostIp: "127.0.0.1", hostPort: 80, guestPort: 7, protocol: "tcp", isAutomatic: false }, () =>
      Promise.reject(new Error("nobody dials")),
    ),
  "record of a VM: one, running": ({ daemon }) => create(daemon, { name: "one", image: "web:1" }),
  "run: 1": ({ daemon }) => create(daemon, { name: "one", image: "web:1" }),
  "reserved memory: 134217728": ({ daemon }) => create(daemon, { name: "one", image: "web:1", memoryBytes: 128 * MIB }),
  "reserved CPUs: 2": ({ daemon }) => create(daemon, { name: "one", image: "web:1", cpus: 2 }),
  "reserved disk: 1073741824": ({ daemon }) => create(daemon, { name: "one", image: "web:1", diskBytes: 1024 * MIB }),
  "record of a rootfs: k": ({ core }) => core.images.putRootfs(ROOTFS),
  "record of an image: left": ({ core }) =>
    core.images.putImage({ reference: "left", image: { layers: [] } as never, root: DIGEST, rootfsKey: "k", createdAt: "" }),
  "log of a saga: vm.stop of op_left": ({ core }) => core.sagas.put(firstRecord("op_left", { name: "vm.stop", input: null })),
  "operation: vm.stop": ({ core }) =>
    core.operations.begin({ kind: "vm.stop", key: "left", subject: "left" }, () => new Promise(() => undefined), null),
  "lease: 1": ({ core }) => core.leases.begin(),
  "lock of a VM: 1": ({ core }) => core.vmLocks.acquire("left" as never, { signal }),
  "boot: 1": acquire,
  "wait for a boot: 1": async (planted) => {
    await acquire(planted);
    void acquire(planted);
  },
  "wait for memory: 1": async ({ daemon, world }) => {
    await create(daemon, { name: "one", image: "web:1", memoryBytes: 512 * MIB });
    void create(daemon, { name: "two", image: "web:1", memoryBytes: 512 * MIB });
    await world.clock.sleep(60_000, { signal });
  },
};

const leftIn = async (plant: (planted: Planted) => unknown): Promise<readonly string[]> => {
  const scheduler = new Scheduler(1);
  const world = SimWorld.create(scheduler, { memoryBytes: 640 * MIB, bootsLimit: 1, preboot: true });
  world.registry.put("web:1", { layers: ["web"], command: ["web"] });
  await scheduler.run(async () => {
    const daemon = await world.startDaemon();
    await plant({ world, daemon, core: daemon.core });
  });
  return world.leftovers();
};

test("a world in which nothing was done has nothing left behind", async () => {
  assert.deepEqual(await leftIn(() => undefined), []);
});

for (const [found, plant] of Object.entries(PLANTS)) {
  test(`what is left behind is found: ${found}`, async () => {
    const left = await leftIn(plant);
    assert.ok(
      left.some((line) => line.startsWith(found)),
      `found ${JSON.stringify(left)}`,
    );
  });
}
