import assert from "node:assert/strict";
import { test } from "node:test";
import type { DaemonStatus, KilnEvent, VmView } from "@kiln/protocol";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static";
/** From the death of a VMM to the record of it. */
const SEEN_MS = 500;

const eventsOf = async (home: TestHome, subject: string): Promise<KilnEvent[]> => {
  const text = await home.ok("events", "--since", "0", "--until", "now", "--json", "--filter", `subject=${subject}`, "--filter", "type=vm");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as KilnEvent);
};

/** Kills a VM's QEMU as the host's kernel would for want of memory. */
const killVmm = async (home: TestHome, name: string): Promise<void> => {
  const { pid } = await home.json<VmView>("inspect", name);
  assert.ok(pid);
  const killedAt = Date.now();
  process.kill(pid, "SIGKILL");
  await waitUntil(async () => (await home.json<VmView>("inspect", name)).state === "failed", `the end of ${name}`);
  const failed = (await eventsOf(home, name)).at(-1);
  assert.equal(failed?.type, "vm.failed");
  assert.match(JSON.stringify(failed.data["error"]), /VM_DIED.*QEMU ended/);
  const tookMs = Date.parse(failed.time) - killedAt;
  assert.ok(tookMs <= SEEN_MS, `it took ${tookMs} ms to see that the VMM of ${name} had died`);
};

test("a VMM that is killed is seen within 500 ms, by its own daemon and by the next one: the VM is failed with the reason, and all of it is given back", async () => {
  await using home = await TestHome.warm({ memory: "512m", image: IMAGE });
  for (const name of ["own", "adopted"]) await home.ok("run", "-d", "--name", name, IMAGE, "--", "busybox", "sleep", "1000");
  await killVmm(home, "own");
  assert.match((await home.json<VmView>("inspect", "own")).error?.detail ?? "", /SIGKILL/);
  await home.ok("daemon", "restart");
  await killVmm(home, "adopted");
  const { capacity, vms, pid } = await home.json<DaemonStatus>("daemon", "status");
  assert.deepEqual([capacity.memoryBytes.reserved, capacity.cpus.reserved, vms.running], [0, 0, 0]);
  assert.deepEqual(
    (await home.processes()).filter((process) => process !== pid),
    [],
  );
  assert.equal((await home.kiln(["start", "own"])).code, 0, "a VM that died can be started again");
});
