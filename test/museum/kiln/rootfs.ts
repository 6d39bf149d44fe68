import { createHash } from "node:crypto";
import { type Digest, isDigest, KilnError } from "@kiln/protocol";
import { sameFingerprint } from "@kiln/std/node";
import type { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { Actor, outcomeOf } from "../stage.ts";
import { createKiln, digestOf, imageRecord } from "./pipeline.ts";
import { fingerprintOfInfo, publishBy, toBytes } from "./publish.ts";

export interface World {
  readonly scheduler: Scheduler;
  readonly disk: SimDisk;
}

export const ROOTFS = `/home/rootfs/${"a".repeat(64)}`;
export const GOOD = "a rootfs as its layers give it, of a few blocks";
const IMAGE = imageRecord("deb:debian", digestOf("a"));

const sha256 = (bytes: Uint8Array): Digest => {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  if (!isDigest(digest)) throw new KilnError("INTERNAL", digest);
  return digest;
};

/** A file is read in so many steps. */
const READS = 6;

/** Others may do much meanwhile: a schedule that starves somebody starves one reader, not all. */
export const readSlowly = async (reader: Actor, { disk }: World, path: string): Promise<Uint8Array | null> => {
  const outcome = await outcomeOf(reader.files(disk).read(path));
  for (let piece = 1; piece < READS; piece += 1) await reader.step(`${reader.name}'s reading`);
  return outcome.ok ? outcome.value : null;
};

/** Kiln's pipeline and checks for the rootfs of one image, whose file is on the simulated disk. `content` is what a rebuild gives. */
export const createKilnRootfs = (
  world: World,
  { content = () => GOOD, onBuild = () => undefined }: { readonly content?: () => string; readonly onBuild?: () => void } = {},
) => {
  const { scheduler, disk } = world;
  const builder = new Actor(scheduler, "builder");
  let readers = 0;
  const publish = async (text: string, verify: () => Promise<void>) => {
    const write = (path: string): Promise<void> => builder.files(disk).append(path, toBytes(text));
    const { size, ino, mtimeNs, ctimeNs } = await publishBy(builder, world, { target: ROOTFS, ifExists: "replace", write, verify });
    return { digest: sha256(toBytes(text)), fingerprint: { size, ino, mtimeNs, ctimeNs } };
  };
  const kiln = createKiln(scheduler, {
    rootfsFiles: {
      build: async () => {
        onBuild();
        return publish(GOOD, async () => undefined);
      },
      isWhole: async ({ digest, fingerprint }) => {
        const reader = new Actor(scheduler, `reader ${(readers += 1)}`);
        const info = disk.info(ROOTFS);
        if (info === null || info.size !== fingerprint.size) return false;
        if (sameFingerprint(fingerprintOfInfo(info), fingerprint)) return true;
        const bytes = await readSlowly(reader, world, ROOTFS);
        return bytes !== null && sha256(bytes) === digest;
      },
    },
    rebuild: () => {
      const text = content();
      return publish(text, async () => {
        await builder.step("read it back");
        if (text !== GOOD) throw new KilnError("ROOTFS_INVALID", "the new rootfs is not what its layers give");
      });
    },
  });
  const { signal } = new AbortController();
  return {
    ...kiln,
    builder,
    ensure: () => kiln.pipeline.ensureRootfs(IMAGE, { signal }),
    redo: () => kiln.checks.rebuildRootfs(IMAGE, { signal }),
    recorded: () => kiln.images.getRootfs(IMAGE.rootfsKey),
  };
};
