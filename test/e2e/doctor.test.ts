import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, test, type TestContext } from "node:test";

const ROOT = resolve(import.meta.dirname, "../..");
/** It may lie where only its owner can go, and is the same for all machines of the test, so that they compile it once. */
const CHECKOUT = "/mnt";
const NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups --";

interface Check {
  readonly name: string;
  readonly status: string;
  readonly found: string | null;
  readonly fix: string | null;
}

interface Answer {
  readonly code: number | null;
  readonly ok: boolean;
  readonly checks: ReadonlyMap<string, Check>;
  /** "name found", of each check that has not passed. */
  readonly complaints: readonly string[];
}

interface Machine {
  /** Shell commands that make the machine, in a mount namespace of their own; $T is a directory of the test's. */
  readonly make: string;
  /** What runs the doctor, as another user for example. */
  readonly as?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Whether a daemon is started, as `kiln doctor` does; else the daemon's program looks at once, as it does where none can start. */
  readonly daemon?: boolean;
}

/** Words of the shell: programs of /usr/bin vanish, and /dev is one with the usual devices and no kvm. */
const WORDS = `
hide() {
  mkdir -p $T/tmpfs && mount -t tmpfs -o mode=755 tmpfs $T/tmpfs && mkdir $T/tmpfs/upper $T/tmpfs/work
  for name; do mknod $T/tmpfs/upper/$name c 0 0; done
  mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=$T/tmpfs/upper,workdir=$T/tmpfs/work /usr/bin
}
bare_dev() {
  mkdir -p $T/dev && mount -t tmpfs -o mode=755 tmpfs $T/dev
  for name in null zero full random urandom tty; do cp -a /dev/$name $T/dev/; done
  for name in fd stdin stdout stderr; do cp -a /dev/$name $T/dev/; done
  mkdir $T/dev/net; mknod -m 666 $T/dev/net/tun c 10 200
  mount --bind $T/dev /dev
}`;

/** Runs \`kiln doctor --json\` on such a machine, and stops the daemon that it may have started there. */
const examine = async (context: TestContext, machine: Machine): Promise<Answer> => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-doctor-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const node = `${machine.as ?? ""} $NODE -- ${CHECKOUT}/packages`;
  const look = machine.daemon === true ? `${node}/cli/bin/kiln.mjs doctor --json` : `${node}/daemon/src/main.ts --examine`;
  const stop = machine.daemon === true ? `${node}/cli/bin/kiln.mjs daemon stop` : "true";
  const script = `set -eu; chmod 755 $T; mkdir $T/home; mount --bind '${ROOT}' ${CHECKOUT}; cd $T
${WORDS}
${machine.make}
set +e
${look}; code=$?
${stop} >$T/stop.log 2>&1
exit $code`;
  const env = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: join(directory, "home"),
    KILN_HOME: join(directory, "home/kiln"),
    T: directory,
    NODE: `${CHECKOUT}/node_modules/node-linux-${process.arch}/bin/node`,
    NODE_COMPILE_CACHE: `${CHECKOUT}/.cache/compile`,
    ...machine.env,
  };
  const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (stderr += String(chunk)));
  const ended = Promise.withResolvers<number | null>();
  child.once("close", ended.resolve);
  const code = await ended.promise;
  assert.equal(stderr, "");
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
  for (const { name, status, fix } of checks) assert.equal(fix === null, status === "pass", `${name} is ${status}, and its fix is ${fix}`);
  assert.deepEqual([ok, code], [checks.every((check) => check.status !== "fail"), ok || machine.daemon !== true ? 0 : 1]);
  return {
    ...{ code, ok, checks: new Map(checks.map((check) => [check.name, check])) },
    complaints: checks.filter((check) => check.status !== "pass").map(({ name, status, found }) => `${name} ${status}: ${found}`),
  };
};

const statusOf = (answer: Answer, ...names: string[]): (string | undefined)[] => names.map((name) => answer.checks.get(name)?.status);
const fixOf = (answer: Answer, name: string): string => answer.checks.get(name)?.fix ?? "";
const foundIn = (answer: Answer, name: string): string => answer.checks.get(name)?.found ?? "";

const skip = process.getuid?.() === 0 ? false : "needs root for mounts";

describe("doctor finds what a machine lacks", { skip, concurrency: 2 }, () => {
  test("a machine without QEMU, compiler, setpriv and xz: each with the command that installs it", async (context) => {
    const make = "hide qemu-system-x86_64 musl-gcc setpriv xz";
    const answer = await examine(context, { make, env: { KILN_AGENT: "/nonexistent/agent" }, daemon: true });
    assert.deepEqual(statusOf(answer, "qemu", "agent", "setpriv", "xz", "isolation"), ["fail", "fail", "fail", "warn", "fail"]);
    assert.deepEqual(statusOf(answer, "apt", "dpkg-deb", "prlimit", "home", "space"), ["pass", "pass", "pass", "pass", "pass"]);
    const install = "apt-get install -y --no-install-recommends";
    assert.deepEqual(
      ["qemu", "agent", "setpriv", "xz"].map((name) => fixOf(answer, name)),
      [
        `${install} qemu-system-x86`,
        `${install} musl-tools, then run \`./kiln ps\`, which compiles it`,
        `${install} util-linux`,
        `${install} xz-utils`,
      ],
    );
    assert.equal(answer.checks.has("firmware"), false, "there is no QEMU to ask");
  });

  test("a machine without apt, for a user who is not root: no command that cannot work there", async (context) => {
    const make = "hide qemu-system-x86_64 apt-get apt-cache apt-config dpkg-deb; mkdir -m 700 $T/home/kiln; chown -R 65534 $T/home";
    const answer = await examine(context, { make, as: NOBODY, daemon: true });
    assert.deepEqual(statusOf(answer, "apt", "qemu", "dpkg-deb", "isolation"), ["fail", "fail", "fail", "warn"]);
    assert.match(foundIn(answer, "apt"), /^apt-get is not installed$/);
    for (const { fix } of answer.checks.values()) assert.doesNotMatch(fix ?? "", /apt-get/);
    assert.match(fixOf(answer, "qemu"), /package manager.*qemu-system-x86/);
  });

  test("apt without package lists: root is told to fetch them first, a user that only root can", async (context) => {
    const make = "hide xz; mkdir $T/lists; mount --bind $T/lists /var/lib/apt/lists; chown 65534 $T/home";
    const root = await examine(context, { make });
    assert.deepEqual([statusOf(root, "apt"), fixOf(root, "xz").split(" && ")[0]], [["pass"], "apt-get update"]);
    const user = await examine(context, { make, as: NOBODY });
    assert.deepEqual([statusOf(user, "apt"), fixOf(user, "apt")], [["fail"], "sudo apt-get update"]);
  });

  test("an old QEMU is named with its version, one that does not start with its words", async (context) => {
    const put = (text: string): string =>
      `printf '#!/bin/sh\\n${text}\\n' >$T/qemu; chmod 755 $T/qemu; mount --bind $T/qemu /usr/bin/qemu-system-x86_64`;
    const old = await examine(context, { make: put("echo QEMU emulator version 6.2.0") });
    assert.deepEqual([statusOf(old, "qemu"), foundIn(old, "qemu")], [["fail"], "6.2.0"]);
    const broken = await examine(context, { make: put("echo cannot find libfoo.so >&2; exit 127") });
    assert.equal(statusOf(broken, "qemu")[0], "fail");
    assert.match(foundIn(broken, "qemu"), /--version failed/);
  });

  test("a QEMU without firmware, and one that only the user's PATH finds", async (context) => {
    const bare = await examine(context, { make: "mkdir $T/empty; mount --bind $T/empty /usr/share/seabios" });
    assert.deepEqual(statusOf(bare, "qemu", "firmware"), ["pass", "fail"]);
    assert.match(`${foundIn(bare, "firmware")}; ${fixOf(bare, "firmware")}`, /no bios-256k\.bin .*; apt-get .* seabios$/);
    const make = "mkdir $T/bin; cp /usr/bin/qemu-system-x86_64 $T/bin/; hide qemu-system-x86_64";
    const elsewhere = await examine(context, { make: `${make}; PATH=$T/bin:$PATH` });
    assert.equal(statusOf(elsewhere, "qemu")[0], "fail");
    assert.match(fixOf(elsewhere, "qemu"), /^ln -s .* \/usr\/local\/bin\/$/);
  });

  test("a /dev/kvm that is missing, a file, another device, or root's alone: a warning each, with its own way out", async (context) => {
    const seen: string[] = [];
    for (const kvm of ["true", "touch /dev/kvm", "mknod /dev/kvm c 1 3", "mknod -m 600 /dev/kvm c 10 232"]) {
      const answer = await examine(context, { make: `bare_dev; ${kvm}` });
      assert.deepEqual([answer.ok, answer.complaints.length], [true, 1], answer.complaints.join("\n"));
      assert.equal(statusOf(answer, "accel")[0], "warn");
      seen.push(`${foundIn(answer, "accel")} -> ${fixOf(answer, "accel")}`);
    }
    const [missing = "", file = "", other = "", closed = ""] = seen;
    assert.match(missing, /no \/dev\/kvm -> (modprobe|turn on)/);
    assert.match(file, /a file, not a device -> rm \/dev\/kvm, then/);
    assert.match(other, /the device 1:3, and KVM's is 10:232 -> rm \/dev\/kvm, then/);
    assert.match(closed, /no driver behind it -> |mode 0600.*-> groupadd .*chmod 0660/);
  });

  test("for a user, a /dev/kvm of root's leads to the group", async (context) => {
    const answer = await examine(context, { make: "bare_dev; mknod -m 600 /dev/kvm c 10 232; chown 65534 $T/home", as: NOBODY });
    assert.equal(answer.ok, true, answer.complaints.join("\n"));
    assert.match(fixOf(answer, "accel"), /sudo sh -c '.*chgrp kvm.*', then sudo usermod -aG kvm "\$USER"/);
  });

  test("where no daemon can start it says why, and everything else all the same", async (context) => {
    const answer = await examine(context, { make: "hide qemu-system-x86_64; chmod 755 $T/home", as: NOBODY, daemon: true });
    assert.deepEqual(statusOf(answer, "daemon", "home", "qemu", "apt", "agent"), ["fail", "fail", "fail", "pass", "pass"]);
    assert.match(foundIn(answer, "daemon"), /no permission to use the home/);
    assert.match(foundIn(answer, "home"), /cannot be made: .*\/home cannot be written \(EACCES\)/);
    const full = "mount -t tmpfs -o size=16k tmpfs $T/home; head -c 16384 /dev/zero >$T/home/full || true";
    const noRoom = await examine(context, { make: full, daemon: true });
    assert.deepEqual(statusOf(noRoom, "daemon", "space"), ["fail", "fail"]);
    assert.match(fixOf(noRoom, "space"), /make room/);
  });

  test("homes of others, open ones and registries.toml that is none are named", async (context) => {
    const foreign = await examine(context, { make: "mkdir -m 700 $T/home/kiln; chown 65534 $T/home/kiln", daemon: true });
    assert.deepEqual(statusOf(foreign, "daemon", "home"), ["fail", "fail"]);
    assert.match(fixOf(foreign, "home"), /chown -R 0 /);
    const settings = `mkdir -m 755 $T/home/kiln; printf '[registry."h"]\\nblocked = 7\\n' >$T/home/kiln/registries.toml`;
    const broken = await examine(context, { make: settings, daemon: true });
    assert.deepEqual(statusOf(broken, "home", "registries.toml"), ["pass", "fail"]);
    assert.match(foundIn(broken, "registries.toml"), /registries\.toml, line 2/);
  });

  test("root of a user namespace that has no uids for VMs", async (context) => {
    const answer = await examine(context, { make: "true", as: "unshare --map-root-user --" });
    assert.deepEqual(statusOf(answer, "isolation", "user-namespace"), ["fail", "pass"]);
    assert.match(fixOf(answer, "isolation"), /KILN_UID_BASE/);
  });

  test("what is not needed is not asked for", async (context) => {
    const answer = await examine(context, { make: "hide skopeo umoci debootstrap mke2fs docker podman" });
    assert.equal(answer.ok, true, answer.complaints.join("\n"));
  });
});
