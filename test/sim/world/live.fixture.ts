import assert from "node:assert/strict";
import { createVmRequest, type CreateVmRequest, execRequest } from "@kiln/protocol";
import { beginCreateVm } from "../../../packages/daemon/src/operations/create-vm.ts";
import { removeImage } from "../../../packages/daemon/src/operations/images.ts";
import { removeVm } from "../../../packages/daemon/src/operations/remove-vm.ts";
import { beginStopVm } from "../../../packages/daemon/src/operations/stop-vm.ts";
import { execInVm } from "../../../packages/daemon/src/operations/stream-vm.ts";
import { getVm } from "../../../packages/daemon/src/operations/find-vm.ts";
import type { SimDaemon, SimWorld } from "./world.ts";

const { signal } = new AbortController();
const NOBODY = { idempotencyKey: null, credentials: {}, caller: "" };

/** A VM that starts; the operation once it has ended. */
export const create = async ({ core }: SimDaemon, request: Partial<CreateVmRequest> & { name: string; image: string }) => {
  const begun = beginCreateVm(core, createVmRequest.parse({ start: true, command: ["sleep", "1000"], ...request }), NOBODY);
  return core.operations.wait(begun.id, { signal });
};

/** What a command in a VM writes. */
export const exec = async ({ core }: SimDaemon, vm: string, command: string[]): Promise<string> => {
  const request = execRequest.parse({ id: "e1", command });
  const stream = await execInVm(core, vm, { request, signal });
  let text = "";
  for await (const { stream: kind, offset, bytes } of stream.output) {
    text += new TextDecoder().decode(bytes);
    stream.acknowledge(kind as "stdout", offset + bytes.length);
  }
  await stream.leave(true);
  return text;
};

/** Two VMs one after the other, from a `deb:` image and from a registry: made, booted, used, stopped and removed. */
export const live = async (world: SimWorld): Promise<void> => {
  world.registry.put("deb:busybox", { layers: ["busybox"], command: ["sh"] });
  world.registry.put("web:1", { layers: ["base", "web"], command: ["web"] });
  const daemon = await world.startDaemon();
  const { core } = daemon;
  for (const image of ["deb:busybox", "web:1"]) {
    const ended = await create(daemon, { name: "one", image });
    assert.equal(ended.state, "succeeded", JSON.stringify([ended.error, daemon.journal]));
    assert.equal(getVm(core.vms, "one").state, "running");
    assert.equal(await exec(daemon, "one", ["echo", "hi"]), "hi\n");
    const stop = beginStopVm(core, "one", { timeoutMs: 1000, idempotencyKey: null, caller: "" });
    assert.equal((await core.operations.wait(stop.id, { signal })).state, "succeeded");
    await removeVm(core, getVm(core.vms, "one").id, { force: false });
    await removeImage(core, image);
  }
  assert.deepEqual(world.leftovers(), []);
  await world.stopDaemon();
};
