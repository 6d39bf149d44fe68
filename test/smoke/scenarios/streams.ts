/** Output and input of a VM's own command. */
import assert from "node:assert/strict";
import { guest, shell } from "../guests.ts";
import { isolated, type Scenario } from "../scenario.ts";

export const STREAMS: readonly Scenario[] = [
  isolated(
    "logs-follow",
    "logs -f of several readers ends with the VM, and each has every line; --tail has the last",
    async ({ kiln, vm }) => {
      const name = vm("counter");
      const script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; busybox usleep 10000; done; echo last >&2";
      await kiln.ok("run", "-d", "--name", name, ...guest(), ...shell(script));
      const readers = await Promise.all(Array.from({ length: 3 }, () => kiln.exits(0, ["logs", "-f", name])));
      const numbers = `${Array.from({ length: 40 }, (_, index) => index + 1).join("\n")}\n`;
      for (const { stdout, stderr } of readers) assert.deepEqual([stdout, stderr], [numbers, "last\n"]);
      const tail = await kiln.exits(0, ["logs", "--tail", "2", name]);
      assert.deepEqual([tail.stdout, tail.stderr], ["40\n", "last\n"]);
    },
  ),

  isolated("logs-restart", "the log holds what all boots of a VM wrote, in order", async ({ kiln, vm }) => {
    const name = vm("twice");
    await kiln.ok("run", "--name", name, ...guest(), ...shell("echo boot $(busybox wc -l < /boots 2>/dev/null); echo x >> /boots"));
    await kiln.exits(0, ["start", "-a", name]);
    assert.equal(await kiln.ok("logs", name), "boot\nboot 1\n");
  }),

  isolated("attach", "attach gives a running command its input and gets its output and exit code", async ({ kiln, vm }) => {
    const name = vm("reader");
    await kiln.ok("run", "-d", "-i", "--name", name, ...guest(), ...shell("read line; echo got $line; exit 6"));
    const outcome = await kiln.exits(6, ["attach", name], { input: "words\n" });
    assert.match(outcome.stdout, /got words\n$/);
  }),

  isolated("attach-two", "two who attach see the same, and one who leaves takes nothing along", async ({ kiln, vm }) => {
    const name = vm("talker");
    const script = "while [ ! -e /stop ]; do busybox usleep 20000; done; echo end";
    await kiln.ok("run", "-d", "--name", name, ...guest(), ...shell(script));
    const [stays, leaves] = [kiln.start(["attach", "--no-stdin", name]), kiln.start(["attach", "--no-stdin", "--no-sig-proxy", name])];
    await kiln.ok("exec", name, "busybox", "true");
    leaves.interrupt();
    await leaves.outcome;
    await kiln.ok("exec", name, "busybox", "touch", "/stop");
    const { code, stdout } = await stays.outcome;
    assert.deepEqual([code, stdout], [0, "end\n"]);
  }),
];
