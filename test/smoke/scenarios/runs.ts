/** `kiln run` in the foreground. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { VmView } from "@kiln/protocol";
import { waitUntil } from "../../e2e/home.ts";
import { guest, IMAGE, MEMORY, shell } from "../guests.ts";
import { isolated, type Scenario } from "../scenario.ts";

export const RUNS: readonly Scenario[] = [
  isolated("run-rm", "run --rm prints what the guest prints, on both streams, and leaves no VM", async ({ kiln, vm }) => {
    const name = vm("once");
    const outcome = await kiln.exits(0, ["run", "--rm", "--name", name, ...guest(), ...shell("echo out; echo err >&2")]);
    assert.deepEqual([outcome.stdout, outcome.stderr], ["out\n", "err\n"]);
    assert.deepEqual(await kiln.json("ps", "-a", "--filter", `name=${name}`), []);
  }),

  isolated(
    "run-exit-codes",
    "the guest's exit code is kiln's; a signal is 128 more; 127, 126 and 125 say what never ran",
    async ({ kiln }) => {
      const exits = (code: number, ...command: readonly string[]) => kiln.exits(code, ["run", "--rm", ...guest(), ...command]);
      await exits(7, ...shell("exit 7"));
      await exits(128 + 15, ...shell("kill -TERM $$"));
      await exits(127, "no-such-program");
      await exits(126, "/etc");
      await kiln.exits(125, ["run", "--rm", "--pull", "never", "smoke/none:1"]);
      await kiln.exits(2, ["run", "--no-such-flag", IMAGE]);
    },
  ),

  isolated("run-environment", "-e, --env-file, -w, -u and --hostname reach the guest", async ({ kiln, scratch }) => {
    const file = join(scratch, "env");
    await writeFile(file, "# a remark\nFROM_FILE=file\nPASSED\n");
    const script = "echo $GIVEN $FROM_FILE $PASSED; busybox pwd; busybox id -u; busybox id -g; busybox hostname";
    const flags = ["-e", "GIVEN=flag", "--env-file", file, "-w", "/bin", "-u", "1234:56", "--hostname", "elsewhere"];
    const outcome = await kiln.exits(0, ["run", "--rm", ...guest(...flags), ...shell(script)], { env: { PASSED: "caller" } });
    assert.equal(outcome.stdout, "flag file caller\n/bin\n1234\n56\nelsewhere\n");
  }),

  isolated("run-stdin", "with -i a megabyte of stdin arrives whole and ends; without it there is none", async ({ kiln }) => {
    const input = "0123456789abcdef".repeat(65_536);
    const counted = await kiln.exits(0, ["run", "--rm", "-i", ...guest(), "busybox", "wc", "-c"], { input });
    assert.equal(counted.stdout.trim(), String(input.length));
    assert.equal((await kiln.exits(0, ["run", "--rm", ...guest(), "busybox", "wc", "-c"], { input })).stdout.trim(), "0");
  }),

  isolated("run-tty", "-t gives the command a terminal of the caller's size, and its exit code comes back through it", async ({ kiln }) => {
    // -e: script ends as the command does
    const wrapper = ["sh", "-c", 'exec script -qefc "stty rows 33 cols 101; exec $*" /dev/null', "sh"];
    const words = ["run", "--rm", "-it", ...guest(), "busybox", "sh", "-c", "'busybox tty && busybox stty size; exit 9'"];
    const outcome = await kiln.exits(9, words, { wrapper });
    assert.match(outcome.stdout, /\/dev\/\S+\r+\n33 101\r+\n/);
  }),

  isolated("run-large-output", "two hundred thousand lines arrive whole and in order", async ({ kiln }) => {
    const { stdout } = await kiln.exits(0, ["run", "--rm", ...guest(), "busybox", "seq", "1", "200000"]);
    assert.equal(stdout, `${Array.from({ length: 200_000 }, (_, index) => index + 1).join("\n")}\n`);
  }),

  isolated("run-interrupt", "Ctrl-C reaches the guest's command, whose exit code comes back", async ({ kiln, vm, signal }) => {
    const name = vm("held");
    let seen = "";
    const script = "trap 'echo caught; exit 42' INT; echo ready; while :; do busybox sleep 1000000 & wait $!; done";
    const started = kiln.start(["run", "--rm", "--name", name, ...guest(), ...shell(script)], { watch: (text) => (seen += text) });
    await waitUntil(async () => Promise.resolve(seen.includes("ready") || signal.aborted), "the command");
    started.interrupt();
    const { code } = await started.outcome;
    assert.deepEqual([code, seen], [42, "ready\ncaught\n"]);
    assert.deepEqual(await kiln.json("ps", "-a", "--filter", `name=${name}`), []);
  }),

  isolated("run-entrypoint", "--entrypoint replaces the image's, and what follows the image is its arguments", async ({ kiln }) => {
    const { stdout } = await kiln.exits(0, ["run", "--rm", "-m", MEMORY, "--entrypoint", "busybox", IMAGE, "echo", "--", "-n"]);
    assert.equal(stdout, "-- -n\n");
  }),

  isolated("run-cold", "--start cold boots the kernel, whose words are on the console", async ({ kiln, vm }) => {
    const name = vm("cold");
    await kiln.ok("run", "-d", "--idle", "--start", "cold", "--name", name, "-m", MEMORY, IMAGE);
    const view = await kiln.json<VmView>("inspect", name);
    assert.deepEqual([view.startPath, view.startReason === null], ["cold", false]);
    assert.match(await kiln.ok("exec", name, "busybox", "uname", "-a"), new RegExp(`^Linux ${name} \\d+\\.\\d+`));
    assert.equal((await kiln.exits(0, ["logs", "--console", name])).code, 0);
  }),

  isolated("start-attach", "create makes a VM that does not run; start -a runs it, prints, and ends as it does", async ({ kiln, vm }) => {
    const name = vm("job");
    await kiln.ok("create", "--name", name, ...guest(), ...shell("echo worked; exit 3"));
    assert.equal((await kiln.json<VmView>("inspect", name)).state, "created");
    assert.equal((await kiln.exits(3, ["start", "-a", name])).stdout, "worked\n");
    const { state, exitCode } = await kiln.json<VmView>("inspect", name);
    assert.deepEqual([state, exitCode], ["exited", 3]);
  }),

  isolated(
    "run-detached-no-wait",
    "run -d --no-wait answers at once with the operation, which op watch follows to its end",
    async ({ kiln, vm }) => {
      const name = vm("later");
      const begun = await kiln.json<{ operation: string; joined: null }>(
        "run",
        "-d",
        "--no-wait",
        "--idle",
        "--name",
        name,
        "-m",
        MEMORY,
        IMAGE,
      );
      await kiln.ok("op", "watch", begun.operation);
      assert.equal((await kiln.json<VmView>("inspect", name)).state, "running");
    },
  ),
];
