import { KilnError } from "@kiln/protocol";
import type { Core } from "../../../packages/daemon/src/operations/core.ts";
import { removeImage } from "../../../packages/daemon/src/operations/images.ts";
import { beginStartVm } from "../../../packages/daemon/src/operations/start-vm.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { create, ended, IMAGE, openDaemon, vmOf, whatItSaid, sceneOf, SEEDS_OF_A_DAEMON } from "../daemon.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Removes an image with all that only it needs. Throws IMAGE_IN_USE. */
type Remove = (core: Core, remover: Actor) => Promise<void>;

const NOBODY = { idempotencyKey: null, caller: "" };

const scenario = async (scheduler: Scheduler, remove: Remove): Promise<void> => {
  const { core } = await openDaemon(scheduler);
  const first = vmOf(await create(core, { name: "first" }));
  core.vms.remove(first);
  sceneOf(scheduler, "a daemon starts, and the image is pulled");
  const [user, other] = [new Actor(scheduler, "user"), new Actor(scheduler, "other")];
  const makeAndStart = async (): Promise<void> => {
    for (let time = scheduler.dice.below(8); time >= 0; time -= 1) await user.step("waits");
    user.says(`creates web from ${IMAGE}`);
    const made = await create(core, { name: "web", pull: "never" });
    user.says(whatItSaid(made));
    if (made.error?.code === "IMAGE_NOT_FOUND") return;
    must(made.state === "succeeded", `a create beside a removal is told ${whatItSaid(made)}`);
    await removing;
    const started = await ended(core, beginStartVm(core, vmOf(made), NOBODY));
    must(started.state === "succeeded", `web was created, and what it boots from is gone: ${whatItSaid(started)}`);
  };
  const removeIt = async (): Promise<void> => {
    for (let time = scheduler.dice.below(8); time >= 0; time -= 1) await other.step("waits");
    const outcome = await outcomeOf(remove(core, other));
    other.says(outcome.ok ? `has removed ${IMAGE}` : outcome.error.message);
    const isRefused = !outcome.ok && outcome.error instanceof KilnError && outcome.error.code === "IMAGE_IN_USE";
    must(outcome.ok || isRefused, `a removal beside a create is told ${outcome.ok ? "" : outcome.error.message}`);
  };
  const removing = removeIt();
  await Promise.all([makeAndStart(), removing]);
};

/** Nobody uses it, so it can go. */
const lookThenRemove: Remove = async (core, remover) => {
  const image = core.images.listImages().find(({ reference }) => reference === IMAGE);
  if (image === undefined) return;
  if (core.images.isRootfsInUse(image.rootfsKey)) throw new KilnError("IMAGE_IN_USE", `${IMAGE} is in use`);
  remover.says("finds no VM that uses it");
  core.images.removeUnusedImage(image);
  for (const { digest } of image.image.layers) {
    await remover.step("unlinks a layer");
    core.blobs.removeNow(digest);
  }
  await remover.step("unlinks its rootfs");
  core.rootfsFiles.removeNow(image.rootfsKey);
  await remover.step("deletes its rootfs' record");
  core.images.forgetRootfs(image.rootfsKey);
};

export const exhibit: Exhibit = {
  id: "I23",
  title: "An image that nobody used is removed from under the VM that just began to",
  story: [
    "Remove looks whether a VM uses the image, finds none, and deletes files and records one after the other. A create that has found the",
    "image there, and is about to write its VM's record, is in nobody's list yet. The VM is made and cannot start; or a pull of the",
    "name comes in between, finds the half that is left, and takes it for the whole.",
    "Order: the create finds the image; remove finds no user; the VM is reserved; its rootfs goes.",
    "In Kiln a create holds a lease on what it resolved, from before it looks until its record names it. The sweep asks for records and",
    "leases in the same turn in which it deletes, and the reservation looks once more in its own transaction.",
    "Code: `packages/daemon/src/images/leases.ts`, `packages/daemon/src/operations/images.ts`, `sweep.ts`, `store/vm-store.ts`.",
  ],
  seeds: SEEDS_OF_A_DAEMON,
  complaint: "what it boots from is gone",
  kiln: (scheduler) => scenario(scheduler, (core) => removeImage(core, IMAGE)),
  naive: (scheduler) => scenario(scheduler, lookThenRemove),
};
