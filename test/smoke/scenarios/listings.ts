/** What Kiln says of itself and of what it has, to people and to programs. */
import assert from "node:assert/strict";
import type { DaemonStatus, DfReport, DoctorReport, KilnEvent, VmView } from "@kiln/protocol";
import { guest, IMAGE, MEMORY_BYTES, shell, SLEEP } from "../guests.ts";
import { isolated, type Scenario } from "../scenario.ts";

/** DESIGN's contract of a VM, on which scripts depend: fields are only added. */
const VM_FIELDS =
  "id name state exitCode signal error image imageDigest rootfsDigest kernel command createdAt startedAt finishedAt cpus memoryBytes diskBytes driver accel pid epoch bootId startPath timings network health labels".split(
    " ",
  );
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

export const LISTINGS: readonly Scenario[] = [
  isolated(
    "inspect-contract",
    "inspect of a VM that runs has every field of the contract, and what is unknown is null",
    async ({ kiln, vm }) => {
      const name = vm("seen");
      await kiln.ok("run", "-d", "--name", name, ...guest("-l", "team=a", "--disk", "64m"), ...SLEEP);
      const view = await kiln.json<VmView & Record<string, unknown>>("inspect", name);
      const missing = VM_FIELDS.filter((field) => !Object.hasOwn(view, field) || view[field] === undefined);
      assert.deepEqual(missing, []);
      assert.deepEqual(
        [view.name, view.state, view.image, view.cpus, view.memoryBytes, view.diskBytes, view.epoch],
        [...[name, "running", IMAGE, 1, MEMORY_BYTES, 64 * 2 ** 20, 1]],
      );
      assert.deepEqual([view.exitCode, view.signal, view.error, view.finishedAt], [null, null, null, null]);
      assert.deepEqual([view.command, view.labels], [[...SLEEP], { team: "a" }]);
      for (const time of [view.createdAt, view.startedAt]) assert.match(time ?? "", TIME);
      for (const digest of [view.imageDigest, view.rootfsDigest]) assert.match(digest, /^sha256:[0-9a-f]{64}$/);
      assert.ok(view.startPath === "preboot" || view.startPath === "pool", `${view.startPath}`);
      const boot = await kiln.ok("exec", name, "busybox", "cat", "/proc/sys/kernel/random/boot_id");
      assert.equal(boot.trim(), view.bootId);
    },
  ),

  isolated("ps-filters", "ps shows what runs, -a all, -q ids, and filters narrow by label, name and state", async ({ kiln, vm, nonce }) => {
    const [runs, ended] = [vm("runs"), vm("ended")];
    const label = `smoke=${nonce}`;
    await kiln.ok("run", "-d", "--name", runs, ...guest("-l", label), ...SLEEP);
    await kiln.ok("run", "--name", ended, ...guest("-l", label), "busybox", "true");
    const listed = async (...args: readonly string[]): Promise<string[]> =>
      (await kiln.json<VmView[]>("ps", ...args, "--filter", `label=${label}`)).map(({ name }) => name).toSorted();
    assert.deepEqual(await listed(), [runs]);
    assert.deepEqual(await listed("-a"), [ended, runs]);
    assert.deepEqual(await listed("-a", "--filter", "status=exited"), [ended]);
    assert.deepEqual(await listed("-a", "--filter", `name=${runs}`), [runs]);
    const { id } = await kiln.json<VmView>("inspect", runs);
    assert.equal(await kiln.ok("ps", "-q", "--no-trunc", "--filter", `label=${label}`), `${id}\n`);
    assert.match(await kiln.ok("ps", "-a", "--filter", `label=${label}`), /^ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAME\n/);
  }),

  isolated(
    "json-errors",
    "a failure with --json is one line of RFC 9457 with code, hint and object; without it words; usage is 2",
    async ({ kiln, vm }) => {
      const name = vm("nowhere");
      const problem = await kiln.problem({ exit: 1, code: "VM_NOT_FOUND" }, "stop", name);
      assert.ok(problem.detail.includes(name) && problem.hint !== "" && problem.object === name, JSON.stringify(problem));
      const inWords = await kiln.exits(1, ["stop", name]);
      assert.deepEqual([inWords.stdout, /^kiln: .*\n {2}hint: /.test(inWords.stderr)], ["", true]);
      await kiln.exits(2, ["stop"]);
      await kiln.exits(2, ["no-such-command"]);
      await kiln.problem({ exit: 125, code: "IMAGE_NOT_FOUND" }, "run", "--pull", "never", "smoke/none:1");
    },
  ),

  isolated("events-cursor", "events from a cursor on are those of this VM, in the order of its life, each once", async ({ kiln, vm }) => {
    const name = vm("told");
    const last = (await kiln.lines<KilnEvent>("events", "--since", "1h", "--until", "now")).at(-1)?.seq ?? 0;
    await kiln.ok("run", "--name", name, ...guest(), "busybox", "true");
    await kiln.ok("rm", name);
    const told = await kiln.lines<KilnEvent>(
      "events",
      "--since",
      String(last),
      "--until",
      "now",
      "--filter",
      "type=vm",
      "--filter",
      `subject=${name}`,
    );
    assert.deepEqual(
      told.map(({ type }) => type),
      ["vm.created", "vm.starting", "vm.running", "vm.stopping", "vm.exited", "vm.deleting", "vm.removed"],
    );
    const seqs = told.map(({ seq }) => seq);
    assert.deepEqual(
      seqs,
      [...new Set(seqs)].toSorted((a, b) => a - b),
    );
    assert.ok(seqs.every((seq) => seq > last));
  }),

  isolated("explain", "explain of a VM and of its start says how it started and what happened to it", async ({ kiln, vm }) => {
    const name = vm("why");
    await kiln.exits(3, ["run", "--name", name, ...guest(), ...shell("exit 3")]);
    const told = await kiln.json<{ state: string; operations: { kind: string }[] }>("explain", name);
    assert.deepEqual([told.state, told.operations.map(({ kind }) => kind)], ["exited", ["vm.create", "vm.start"]]);
    assert.match(await kiln.ok("explain", name), new RegExp(`^${name} ended with exit code 3 `, "m"));
  }),

  isolated("doctor", "doctor finds nothing that fails on a machine where VMs run", async ({ kiln }) => {
    const report = await kiln.json<DoctorReport>("doctor");
    assert.deepEqual(
      report.checks.filter(({ status }) => status === "fail"),
      [],
    );
    assert.ok(report.ok && report.checks.length > 5);
  }),

  isolated("df", "df's items add up to its total, and a VM's disk is among them while it is there", async ({ kiln, vm }) => {
    const name = vm("sized");
    await kiln.ok("run", "--name", name, ...guest(), "busybox", "true");
    const { id } = await kiln.json<VmView>("inspect", name);
    const report = await kiln.json<DfReport>("df");
    const sum = report.items.reduce((total, { diskBytes }) => total + diskBytes, 0);
    assert.equal(report.total.diskBytes, sum);
    assert.ok(report.items.some((item) => item.kind === "vm" && item.id === id));
    assert.match(await kiln.ok("df"), /TYPE/);
  }),

  isolated(
    "daemon-status",
    "daemon status has the contract's fields, and a second daemon start finds the one that runs",
    async ({ kiln }) => {
      const status = await kiln.json<DaemonStatus>("daemon", "status");
      assert.deepEqual([status.running, status.apiVersion, status.home], [true, "v1", kiln.home.path]);
      assert.ok(status.capacity.memoryBytes.total > 0 && status.capacity.boots.limit > 0);
      assert.equal(status.drivers[0]?.name, "qemu");
      await kiln.ok("daemon", "start");
      assert.equal((await kiln.json<DaemonStatus>("daemon", "status")).pid, status.pid);
    },
  ),

  isolated("words", "version, help and completion need no daemon", async ({ kiln }) => {
    assert.match(await kiln.ok("version"), /^kiln \d/);
    assert.match(await kiln.ok("run", "--help"), /^Usage: kiln run/);
    assert.match(await kiln.ok("completion", "bash"), /complete/);
  }),
];
