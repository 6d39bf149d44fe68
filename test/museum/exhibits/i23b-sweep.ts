import type { Digest } from "@kiln/protocol";
import { ContentStore } from "../../../packages/daemon/src/content/content-store.ts";
import type { ContentLease } from "../../../packages/daemon/src/images/ports.ts";
import { collectContent } from "../../../packages/daemon/src/operations/collect-content.ts";
import { SqliteVmStore } from "../../../packages/daemon/src/store/vm-store.ts";
import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createKiln, digestOf, PLATFORM, resolvedImage } from "../kiln/pipeline.ts";
import { plant } from "../kiln/publish.ts";
import type { World } from "../kiln/rootfs.ts";
import { Actor, actors } from "../stage.ts";

interface Store {
  /** Fetches what is missing of the image, and names it. */
  pull(puller: Actor): Promise<void>;
  /** Removes blobs that nothing refers to. */
  sweep(sweeper: Actor): Promise<void>;
}

/** One blob makes the image, for short: manifest, config and layer. */
const BLOB = digestOf("a");
const pathOf = (digest: Digest): string => `/home/content/${digest}`;
const OLD_MS = 24 * 3_600_000;

const scenario = async (scheduler: Scheduler, underTest: (world: World) => Store): Promise<void> => {
  const world = { scheduler, disk: new SimDisk(scheduler) };
  // left from an image that was removed yesterday
  plant(world.disk, pathOf(BLOB), "a layer");
  await scheduler.clockOf().sleep(OLD_MS, { signal });
  const store = underTest(world);
  const [puller, sweeper] = actors(scheduler, "puller", "sweeper") as [Actor, Actor];
  const pull = async (): Promise<void> => {
    await puller.step("pull debian");
    await store.pull(puller);
    puller.says("is told that debian is there");
  };
  const sweep = async (): Promise<void> => {
    await sweeper.step("begin");
    await store.sweep(sweeper);
  };
  await Promise.all([pull(), sweep()]);
  must(world.disk.peek(pathOf(BLOB)) !== null, "debian has its name, and the sweep has taken its layer away");
};

const { signal } = new AbortController();

/** What is there is not fetched again. */
const fetchBlob = async (puller: Actor, { disk }: World): Promise<void> => {
  await puller.step("look for the layer");
  if (disk.peek(pathOf(BLOB)) !== null) return puller.says("finds the layer there: nothing to fetch");
  await puller.step("fetch the layer");
  plant(disk, pathOf(BLOB), "a layer");
};

const kilnStore = (world: World): Store => {
  const { scheduler, disk } = world;
  const source = {
    fetch: async (reference: string, { lease }: { readonly lease: ContentLease }) => {
      lease.hold(BLOB);
      await fetchBlob(new Actor(scheduler, "puller"), world);
      return { image: resolvedImage(reference, BLOB), root: BLOB };
    },
  };
  const { pipeline, images, leases, database } = createKiln(scheduler, { source });
  // there is none, and so nothing is read for one
  const vms = new SqliteVmStore(database, { onFreed: () => undefined });
  const content = new ContentStore({ directory: "/nonexistent/content", stagingDir: "/nonexistent/staging" });
  return {
    pull: async () => {
      using lease = leases.begin();
      const wanted = { reference: "deb:debian", pull: "missing", platform: null, plainHttp: false, credentials: {}, lease } as const;
      await pipeline.ensureImage(wanted, { signal });
    },
    sweep: async (sweeper) => {
      const list = async function* () {
        await sweeper.step("list the blobs");
        if (disk.peek(pathOf(BLOB)) !== null) yield { digest: BLOB };
        await sweeper.step("end of the list");
      };
      const removeNow = (digest: Digest): number => {
        sweeper.says("removes the layer");
        disk.remove(pathOf(digest));
        return 0;
      };
      await collectContent({ images, leases, blobs: { list, removeNow }, vms, content, platform: PLATFORM });
    },
  };
};

/** Mark and sweep; what is younger than an hour may be on its way to a name. */
const naiveStore = (world: World): Store => {
  const { disk, scheduler } = world;
  const named = new Set<Digest>();
  return {
    pull: async (puller) => {
      await fetchBlob(puller, world);
      await puller.step("write the record");
      named.add(BLOB);
    },
    sweep: async (sweeper) => {
      await sweeper.step("read the records");
      const marked = new Set(named);
      await sweeper.step("list the blobs");
      const info = disk.info(pathOf(BLOB));
      const isOld = info !== null && scheduler.clockOf().now() - info.changedMs > 3_600_000;
      if (marked.has(BLOB) || !isOld) return;
      await sweeper.step("unlink");
      disk.remove(pathOf(BLOB));
      sweeper.says("removes the layer, which is old and which nothing names");
    },
  };
};

export const exhibit: Exhibit = {
  id: "I23b",
  title: "The garbage collector takes a layer that a pull has just found",
  story: [
    "Content by digest is collected by mark and sweep, and what is being pulled has no name yet. The usual answer is a time of grace: what",
    "is younger than an hour stays. It protects what was fetched just now, not what was found: a layer left over from an image that was",
    "removed yesterday is old, and saves the pull a download. Registries had to be made read-only to be collected, for this reason.",
    "Order: the sweep reads the records and finds the layer named by none; the pull finds it there and fetches nothing; the sweep",
    "unlinks it; the image is named, and has no layer.",
    "In Kiln a pull takes a lease on a digest before it looks whether it is there, and the sweep asks names and leases in the very turn",
    "in which it deletes: between the decision and the deletion nothing can come.",
    "Code: `packages/daemon/src/images/leases.ts`, `operations/collect-content.ts`.",
  ],
  complaint: "the sweep has taken its layer away",
  kiln: (scheduler) => scenario(scheduler, kilnStore),
  naive: (scheduler) => scenario(scheduler, naiveStore),
};
