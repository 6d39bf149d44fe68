import { type CpioEntry, writeNewc } from "@kiln/formats/cpio";
import { buildInitramfs } from "../../../packages/daemon/src/content/initramfs.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { toBytes } from "../kiln/publish.ts";
import { type Actor, actors } from "../stage.ts";

type Modules = ReadonlyMap<string, Uint8Array>;
/** The archive that the kernel unpacks first, from the modules in the order in which they have been read. */
type Pack = (modules: Modules) => Uint8Array;

const NEEDS_NOTHING = { depends: [], softDependsBefore: [], softDependsAfter: [], aliases: [] };
const NAMES = ["ext4", "overlay", "virtio_blk", "virtio_console"];

const scenario = async (scheduler: Scheduler, pack: Pack): Promise<void> => {
  const buildOn = async (host: Actor): Promise<Uint8Array> => {
    const modules = new Map<string, Uint8Array>();
    const read = async (name: string): Promise<void> => {
      await host.step(`read ${name}.ko`);
      modules.set(name, toBytes(`the module ${name}`));
    };
    await Promise.all(NAMES.map(read));
    host.says(`has read ${[...modules.keys()].join(", ")}`);
    return pack(modules);
  };
  const [one, other] = await Promise.all(actors(scheduler, "host 1", "host 2").map(buildOn));
  const isSame = one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;
  must(isSame, "two hosts have built one key, and their archives differ");
};

const kilnPack: Pack = (modules) => {
  const plan = { boot: ["virtio_console"], block: ["virtio_blk"], overlay: ["overlay", "ext4"], net: [], vsock: [], mmio: [] };
  const read = new Map([...modules].map(([name, bytes]) => [name, { name, path: `${name}.ko`, bytes, ...NEEDS_NOTHING }]));
  return buildInitramfs({ agent: toBytes("the agent"), modules: read, plan });
};

/** Each file as it comes. */
const naivePack: Pack = (modules) =>
  writeNewc([
    { type: "directory", path: "modules", mode: 0o755 },
    { type: "file", path: "init", mode: 0o755, bytes: toBytes("the agent") },
    ...[...modules].map(([name, bytes]): CpioEntry => ({ type: "file", path: `modules/${name}.ko`, mode: 0o444, bytes })),
  ]);

export const exhibit: Exhibit = {
  id: "I9",
  title: "Two builders of one key make different bytes",
  story: [
    "Artifacts that are named by what they are made from are shared, compared and verified as if one name meant one content. Then the",
    "builder lets in what nobody named: the order in which files were read, the order of a directory, a time, a random UUID. mkfs puts",
    "a new UUID and a hash seed in each image; archives keep the time of the build. A second host's copy no longer matches the first's",
    "record, and each verification looks like damage.",
    "Order: host 1 reads the modules in one order, host 2 in another, as disks answer; each writes them as they come.",
    "In Kiln an artifact is a pure function of its key: entries are sorted, times and UUIDs come from the key or the layers.",
    "Code: `packages/daemon/src/content/initramfs.ts`, `packages/formats/src/ext4/` (the same for whole file systems).",
  ],
  complaint: "two hosts have built one key, and their archives differ",
  kiln: (scheduler) => scenario(scheduler, kilnPack),
  naive: (scheduler) => scenario(scheduler, naivePack),
};
