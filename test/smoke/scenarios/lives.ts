/** What happens to VMs between create and rm. */
import assert from "node:assert/strict";
import type { VmView } from "@kiln/protocol";
import { identifyProcess, signalProcess } from "@kiln/std/node";
import { waitUntil } from "../../e2e/home.ts";
import type { Cli } from "../cli.ts";
import { guest, IMAGE, MEMORY, shell, SLEEP } from "../guests.ts";
import { isolated, type Scenario } from "../scenario.ts";

const inspect = (kiln: Cli, name: string): Promise<VmView> => kiln.json<VmView>("inspect", name);

export const LIVES: readonly Scenario[] = [
  isolated("stop-start", "I25 stop and start keep the disk, synced or not; the guest boots anew", async ({ kiln, vm }) => {
    const name = vm("kept");
    await kiln.ok("run", "-d", "--name", name, ...guest(), ...SLEEP);
    await kiln.ok("exec", name, ...shell("echo data > /kept; echo tmp > /tmp-too"));
    const before = await inspect(kiln, name);
    await kiln.ok("stop", name);
    const stopped = await inspect(kiln, name);
    assert.deepEqual([stopped.state, stopped.exitCode, stopped.pid], ["exited", 0, null]);
    await kiln.ok("start", name);
    assert.equal(await kiln.ok("exec", name, "busybox", "cat", "/kept", "/tmp-too"), "data\ntmp\n");
    const after = await inspect(kiln, name);
    assert.equal(after.epoch, before.epoch + 1);
    assert.notEqual(after.bootId, before.bootId);
  }),

  isolated("restart", "restart is another boot of the same VM, from any state", async ({ kiln, vm }) => {
    const name = vm("again");
    await kiln.ok("create", "--name", name, ...guest(), ...SLEEP);
    await kiln.ok("restart", name);
    const first = await inspect(kiln, name);
    await kiln.ok("restart", "-t", "5", name);
    const second = await inspect(kiln, name);
    assert.deepEqual([first.state, second.state, second.id], ["running", "running", first.id]);
    assert.deepEqual([first.epoch, second.epoch], [1, 2]);
  }),

  isolated(
    "kill",
    "kill -s sends that signal to the command; kill without one ends it, and the record says by what",
    async ({ kiln, vm }) => {
      const name = vm("target");
      const script = "trap 'echo hung up' HUP; echo ready; while :; do busybox sleep 1000000 & wait $!; done";
      await kiln.ok("run", "-d", "--name", name, ...guest(), ...shell(script));
      let seen = "";
      const reader = kiln.start(["logs", "-f", name], { watch: (text) => (seen += text) });
      await waitUntil(async () => Promise.resolve(seen === "ready\n"), "the trap");
      await kiln.ok("kill", "-s", "HUP", name);
      await waitUntil(async () => Promise.resolve(seen === "ready\nhung up\n"), "the signal");
      await kiln.ok("kill", name);
      assert.equal((await reader.outcome).code, 0);
      assert.equal((await kiln.ok("wait", name)).trim(), "137");
      const { state, exitCode, signal } = await inspect(kiln, name);
      assert.deepEqual([state, exitCode, signal], ["exited", 137, "SIGKILL"]);
    },
  ),

  isolated(
    "rm-running",
    "I22 rm refuses a VM that runs, rm -f ends it, twice is no error, and it holds in every state",
    async ({ kiln, vm }) => {
      const [running, created, exited] = [vm("running"), vm("created"), vm("exited")];
      await kiln.ok("run", "-d", "--name", running, ...guest(), ...SLEEP);
      await kiln.ok("create", "--name", created, ...guest(), "busybox", "true");
      await kiln.ok("run", "--name", exited, ...guest(), "busybox", "true");
      await kiln.problem({ exit: 1, code: "VM_RUNNING" }, "rm", running);
      await kiln.ok("rm", created, exited);
      await kiln.ok("rm", "-f", running);
      await kiln.ok("rm", "-f", running, created, exited);
      await kiln.problem({ exit: 1, code: "VM_NOT_FOUND" }, "rm", running);
    },
  ),

  isolated("wait", "wait prints each VM's exit code when all have ended, and takes the worst", async ({ kiln, vm }) => {
    const names = [vm("zero"), vm("four"), vm("one")];
    for (const [index, code] of [0, 4, 1].entries()) {
      await kiln.ok("run", "-d", "--name", names[index] ?? "", ...guest(), ...shell(`busybox usleep 300000; exit ${code}`));
    }
    assert.equal((await kiln.run(["wait", ...names])).stdout, "0\n4\n1\n");
  }),

  isolated("name-taken", "I17 of ten that want one name at once one gets it, and the others are told whose it is", async ({ kiln, vm }) => {
    const name = vm("wanted");
    const create = ["--json", "create", "--name", name, ...guest(), "busybox", "true"];
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => kiln.run(create)));
    const refused = outcomes.filter(({ code }) => code !== 0);
    assert.equal(refused.length, 9);
    for (const { stderr } of refused) assert.equal((JSON.parse(stderr) as { code: string }).code, "VM_NAME_TAKEN", stderr);
    assert.equal((await kiln.json<VmView[]>("ps", "-a", "--filter", `name=${name}`)).length, 1);
  }),

  isolated(
    "vmm-killed",
    "a VMM that dies is seen: the VM has failed with its reason, its command's caller is told, and it starts again",
    async ({ kiln, vm }) => {
      const name = vm("shot");
      await kiln.ok("run", "-d", "--idle", "--name", name, "-m", MEMORY, IMAGE);
      const held = kiln.start(["exec", name, "busybox", "sleep", "1000000"]);
      const { pid } = await inspect(kiln, name);
      const vmm = await identifyProcess(pid ?? 0);
      assert.ok(vmm !== null && (await signalProcess(vmm, "SIGKILL")));
      assert.notEqual((await held.outcome).code, 0);
      await kiln.run(["wait", name]);
      const { state, error } = await inspect(kiln, name);
      assert.deepEqual([state, error?.code], ["failed", "VM_DIED"]);
      await kiln.ok("start", name);
      assert.equal(await kiln.ok("exec", name, "busybox", "echo", "back"), "back\n");
    },
  ),

  isolated("start-many", "several VMs are started and stopped by one command, and their boots overlap", async ({ kiln, vm }) => {
    const names = [vm("one"), vm("two"), vm("three")];
    for (const name of names) await kiln.ok("create", "--name", name, "--idle", "-m", MEMORY, IMAGE);
    await kiln.ok("start", ...names);
    await kiln.ok("stop", "-t", "1", ...names);
    const views = await Promise.all(names.map((name) => inspect(kiln, name)));
    assert.ok(views.every(({ state }) => state === "exited"));
  }),
];
