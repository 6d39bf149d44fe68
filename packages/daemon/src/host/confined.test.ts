import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { describe, test } from "node:test";
import { systemClock } from "@kiln/std";
import { identifyProcess, processState } from "@kiln/std/node";
import { confinedArgv, spawnConfined } from "./confined.ts";
import { findStrayDescriptors, isInheritable } from "./descriptors.ts";
import { endProcess, findProcesses, parseEnvironment } from "./proc.ts";

const signal = AbortSignal.timeout(120_000);
const uid = process.getuid?.() === 0 ? 0x6000_0002 : null;
const command = { uid, group: null, environment: { KILN_TEST_MARK: String(process.pid) }, inherited: [] };

const readAll = async (child: ChildProcess): Promise<string> => {
  let text = "";
  for await (const chunk of child.stderr ?? []) text += String(chunk);
  return text;
};

describe("a confined process", () => {
  test("never runs as root", () => {
    assert.throws(() => confinedArgv({ ...command, command: "true", args: [], uid: 0 }), /must not run as root/);
  });

  test("gives up its groups, or keeps the one that it is given", () => {
    const line = (group: number | null): string => confinedArgv({ ...command, command: "true", args: [], uid: 5, group }).join(" ");
    assert.match(line(null), /--reuid=5 --regid=5 --clear-groups --bounding-set=-all/);
    assert.match(line(104), /--reuid=5 --regid=5 --groups=104 --bounding-set=-all/);
  });

  test("enters namespaces before it gives up its privileges, and has none of those that a user namespace gives", () => {
    const enter = (user: string | null, as: number | null): string =>
      confinedArgv({ ...command, command: "true", args: [], uid: as, namespaces: { network: "/n", user } }).join(" ");
    assert.match(enter(null, 5), /^nsenter --net=\/n -- prlimit .* setpriv --reuid=5 .*--bounding-set=-all .*-- true$/);
    assert.match(
      enter("/u", null),
      /^nsenter --net=\/n --user=\/u --preserve-credentials -- prlimit .* setpriv --bounding-set=-all .*-- true$/,
    );
  });

  test("is known by the identity that it keeps, has an environment of its own, and says how it ended", async () => {
    const script = 'echo "$KILN_TEST_MARK $HOME $(id -u) $(pwd)" >&2; exit 3';
    const { child, identity, ended } = await spawnConfined({ ...command, command: "sh", args: ["-c", script] });
    assert.equal(identity.pid, child.pid);
    assert.equal((await readAll(child)).trim(), `${process.pid}  ${uid ?? process.getuid?.()} /`);
    assert.deepEqual(await ended, { exitCode: 3, signal: null });
  });

  test("a program that is not there ends with words that name it", async () => {
    const missing = spawnConfined({ ...command, command: "no-such-vmm", args: [] });
    // It may end before it could be identified, or after.
    const [started] = await Promise.allSettled([missing]);
    if (started.status === "rejected") return assert.rejects(missing, { code: "VMM_FAILED", message: /no-such-vmm/ });
    assert.match(await readAll(started.value.child), /no-such-vmm/);
    assert.equal((await started.value.ended).exitCode, 127);
  });

  test("inherits no descriptor that this process was started with", async () => {
    const url = new URL("./confined.ts", import.meta.url).href;
    const own = `process.getuid() === 0 ? 0x60000002 : null`;
    const script = `const { spawnConfined } = await import(${JSON.stringify(url)});
      const { child } = await spawnConfined({ command: "sh", args: ["-c", "readlink /proc/self/fd/30 /proc/self/fd/35 >&2; sleep 1"], uid: ${own}, group: null, environment: {}, inherited: [] });
      child.stderr.pipe(process.stdout);`;
    // Node closes what it inherits up to the first number past 15 that is free; those after it stay.
    const stdio = Array.from({ length: 36 }, (_, number) => ([1, 30, 35].includes(number) ? "pipe" : "ignore"));
    const outer = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio });
    let text = "";
    outer.stdout?.on("data", (chunk: Buffer) => (text += chunk.toString()));
    await once(outer, "close");
    assert.equal(text, "/dev/null\n/dev/null\n");
  });
});

describe("processes in /proc", () => {
  test("I37 are found by their marker and ended by their identity, and no others", async () => {
    const { identity, ended } = await spawnConfined({ ...command, command: "sleep", args: ["60"] });
    const mark = String(process.pid);
    const found = await findProcesses((environment) => environment.get("KILN_TEST_MARK") === mark);
    assert.deepEqual(
      found.map((one) => one.identity),
      [identity],
    );
    const recycled = { ...identity, startTime: String(Number(identity.startTime) - 1) };
    assert.equal(await endProcess(recycled, { clock: systemClock, signal }), false);
    assert.equal(await processState(identity), "alive");
    assert.equal(await endProcess(identity, { clock: systemClock, signal }), true);
    assert.equal((await ended).signal, "SIGKILL");
    assert.equal(await identifyProcess(identity.pid), null);
    assert.equal(await endProcess(identity, { clock: systemClock, signal }), false);
  });

  test("an environment is read whatever its values hold", () => {
    const bytes = new TextEncoder().encode("A=1\0B=x=y z\0C=\0broken\0=odd\0");
    assert.deepEqual(
      [...parseEnvironment(bytes)],
      [
        ["A", "1"],
        ["B", "x=y z"],
        ["C", ""],
      ],
    );
  });

  test("Node opens its own descriptors close-on-exec", async () => {
    assert.equal(isInheritable("pos:\t0\nflags:\t02100000\nmnt_id:\t1\n"), false);
    assert.equal(isInheritable("pos:\t0\nflags:\t0100000\nmnt_id:\t1\n"), true);
    assert.throws(() => isInheritable("nonsense"), /fdinfo/);
    const before = await findStrayDescriptors();
    await using _file = await open("/dev/null");
    assert.deepEqual(await findStrayDescriptors(), before);
  });
});
