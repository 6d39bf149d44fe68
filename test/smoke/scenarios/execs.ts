/** Commands in VMs that run. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { guest, IMAGE, MEMORY, shell } from "../guests.ts";
import { isolated, type Scenario, type SharedPlace } from "../scenario.ts";

/** A VM that waits for commands. */
const box = async ({ kiln, vm }: SharedPlace): Promise<string> => {
  const name = vm("box");
  await kiln.ok("run", "-d", "--idle", "--name", name, "-m", MEMORY, IMAGE);
  return name;
};

export const EXECS: readonly Scenario[] = [
  isolated(
    "exec-flags",
    "exec takes environment, directory, user and stdin, and gives back both streams and the exit code",
    async (place) => {
      const name = await box(place);
      const script = "echo $A; busybox pwd; busybox id -u; busybox cat; echo bad >&2; exit 5";
      const args = ["exec", "-i", "-e", "A=b", "-w", "/bin", "-u", "7", name, ...shell(script)];
      const outcome = await place.kiln.exits(5, args, { input: "typed\n" });
      assert.deepEqual([outcome.stdout, outcome.stderr], ["b\n/bin\n7\ntyped\n", "bad\n"]);
      await place.kiln.exits(127, ["exec", name, "no-such-program"]);
      await place.kiln.exits(126, ["exec", name, "/etc"]);
      await place.kiln.exits(128 + 9, ["exec", name, ...shell("kill -KILL $$")]);
    },
  ),

  isolated("exec-parallel", "I26 I27 ten at once, as soon as the VM is there, all answer, and each ran exactly once", async (place) => {
    const name = await box(place);
    const words = Array.from({ length: 10 }, (_, index) => `${place.nonce}-${index}`);
    const answers = await Promise.all(words.map((word) => place.kiln.ok("exec", name, ...shell(`echo ${word} >> /ran; echo ${word}`))));
    assert.deepEqual(
      answers,
      words.map((word) => `${word}\n`),
    );
    const ran = (await place.kiln.ok("exec", name, "busybox", "cat", "/ran")).trimEnd().split("\n");
    assert.deepEqual(ran.toSorted(), words.toSorted());
  }),

  isolated("exec-detached", "exec -d returns at once, and the command goes on behind it", async (place) => {
    const name = await box(place);
    await place.kiln.ok("exec", "-d", name, ...shell("while [ ! -e /go ]; do busybox usleep 20000; done; echo went > /gone"));
    await place.kiln.exits(1, ["exec", name, "busybox", "ls", "/gone"]);
    await place.kiln.ok("exec", name, "busybox", "touch", "/go");
    const look = "while [ ! -s /gone ]; do busybox usleep 20000; done; busybox cat /gone";
    assert.equal(await place.kiln.ok("exec", name, ...shell(look)), "went\n");
  }),

  isolated(
    "exec-not-running",
    "exec in a VM that has ended, or that is not there, is refused by name with exit code 125",
    async ({ kiln, vm }) => {
      const name = vm("done");
      await kiln.ok("run", "--name", name, ...guest(), "busybox", "true");
      const problem = await kiln.problem({ exit: 125, code: "VM_NOT_RUNNING" }, "exec", name, "busybox", "true");
      assert.match(problem.detail, new RegExp(name));
      assert.match(problem.hint, /kiln start/);
      await kiln.problem({ exit: 125, code: "VM_NOT_FOUND" }, "exec", `${name}-not`, "busybox", "true");
    },
  ),

  isolated("exec-slow-reader", "I26 a command whose reader is slow holds up neither another command nor its own end", async (place) => {
    const name = await box(place);
    const go = join(place.scratch, "go");
    const wrapper = ["sh", "-c", `"$@" | { until [ -e ${go} ]; do sleep 0.02; done; wc -c; }`, "sh"];
    const slow = place.kiln.start(["exec", name, "busybox", "seq", "1", "300000"], { wrapper });
    assert.equal(await place.kiln.ok("exec", name, "busybox", "echo", "on time"), "on time\n");
    await writeFile(go, "");
    assert.equal(
      (await slow.outcome).stdout.trim(),
      String(Array.from({ length: 300_000 }, (_, i) => String(i + 1).length + 1).reduce((a, b) => a + b)),
    );
  }),
];
