import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { after, before, describe, test } from "node:test";
import type { DfReport, ImageDetails, OperationView, VmView } from "@kiln/protocol";
import { identifyProcess, runTool, signalProcess } from "@kiln/std/node";
import { type Outcome, TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:python3-minimal,busybox-static";
/** One shape for all: each other one would be booted and saved first. */
const MEMORY = ["--memory", "256m", "--disk", "128m"];
const signal = AbortSignal.timeout(600_000);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

/** Everything that a layer can say, over what the image has. */
const CHANGE = `
import os
def clear(path):
    for e in list(os.scandir(path)): (clear if e.is_dir(follow_symlinks=False) else os.remove)(e.path)
    os.rmdir(path)
def write(path, data, mode=0o644):
    with open(path, 'wb') as f: f.write(data)
    os.chmod(path, mode)
write('/created', b'new' * 1000, 0o4755)
write(b'/na\\xff\\xfeme', b'no UTF-8')
os.remove('/usr/share/doc/busybox-static/copyright')
clear('/usr/share/doc/python3.11-minimal')
os.mkdir('/usr/share/doc/python3.11-minimal'); write('/usr/share/doc/python3.11-minimal/only', b'opaque')
os.remove('/usr/share/doc/busybox-static/changelog.Debian.gz'); os.mkdir('/usr/share/doc/busybox-static/changelog.Debian.gz')
os.link('/created', '/linked'); os.link('/bin/busybox', '/busybox-too')
os.chmod('/usr/share/doc', 0o2750); os.chown('/usr/share/doc/busybox-static', 1234, 56789)
os.symlink('../created', '/usr/to-created'); os.symlink('x' * 200, '/long-link')
os.setxattr('/created', 'user.kiln', b'\\x00value'); os.setxattr('/usr/share', 'user.of-a-directory', b'y' * 500)
os.mkfifo('/fifo', 0o600); os.mknod('/null', 0o20640, os.makedev(1, 3))
with open('/sparse', 'wb') as f: f.seek(5_000_000); f.write(b'end')
os.makedirs('/deep/er/and/deeper'); write('/deep/er/and/deeper/file', os.urandom(300_000)); os.rename('/deep/er', '/deep/renamed')
os.utime('/created', ns=(1, -86_400_000_000_001)); os.utime('/sparse', ns=(1, 5_000_000_000_123_456_789))
os.mkdir('/tmp/kept')
`;

/** The tree as a program sees it, a line for each entry, without what is mounted: the guest's own things are. */
const DESCRIBE = `
import hashlib, os, stat, sys
root = sys.argv[1] if len(sys.argv) > 1 else '/'
mounts = {line.split()[4] for line in open('/proc/self/mountinfo')} - {'/'} if root == '/' else set()
links = {}
def line(path, s):
    name = os.fsencode(os.path.relpath(path, root)).hex() if path != root else '.'
    kind = stat.S_IFMT(s.st_mode)
    said = [name, oct(s.st_mode), s.st_uid, s.st_gid]
    if path != root: said.append(s.st_mtime_ns)
    if kind == stat.S_IFREG: said += [s.st_size, hashlib.sha256(open(path, 'rb').read()).hexdigest()]
    if kind == stat.S_IFLNK: said.append(os.readlink(path))
    if kind in (stat.S_IFCHR, stat.S_IFBLK): said.append(s.st_rdev)
    if kind != stat.S_IFDIR and s.st_nlink > 1: said.append('link of ' + links.setdefault((s.st_dev, s.st_ino), name))
    if kind != stat.S_IFLNK: said += [(n, os.getxattr(path, n).hex()) for n in sorted(os.listxattr(path)) if n.startswith('user.')]
    print(*said)
def walk(path):
    if path in mounts: return
    s = os.lstat(path)
    line(path, s)
    if stat.S_ISDIR(s.st_mode):
        for name in sorted(os.listdir(path), key=os.fsencode): walk(os.path.join(path, name))
walk(root)
`;

const python = (script: string): string[] => ["env", "-i", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-c", script];
const inVm = (script: string): string[] => ["busybox", ...python(script)];

const hashFile = async (path: string): Promise<string> => {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
};

const diskOf = (home: TestHome, { id }: Pick<VmView, "id">): string => join(home.path, "vms", id, "writable.ext4");

const inspectImage = async (home: TestHome, name: string): Promise<ImageDetails> => {
  const [image] = await home.json<ImageDetails[]>("image", "inspect", name);
  assert.ok(image);
  return image;
};

const layerOf = (home: TestHome, { layerList }: ImageDetails): string =>
  join(home.path, "content/sha256", layerList.at(-1)?.digest.slice("sha256:".length) ?? "");

let home: TestHome;
before(async () => {
  home = await TestHome.warm({ memory: "256m", image: IMAGE });
});
after(() => home[Symbol.asyncDispose]());

describe("an image from a VM", () => {
  before(async () => {
    await home.ok("run", "-d", "--idle", "--name", "changed", ...MEMORY, IMAGE);
    await home.ok("exec", "changed", "--", ...inVm(CHANGE));
  });

  test("it shows what the VM showed, has nothing of Kiln's in it, and the VM is as it was", async (context) => {
    const shown = await home.ok("exec", "changed", "--", ...inVm(DESCRIBE));
    const refused = await home.kiln(["image", "promote", "changed", "--name", "made:1", "--json"]);
    assert.match(refused.stderr, /"code":"VM_RUNNING".*kiln stop changed/);
    await home.ok("stop", "changed");
    const vm = await home.json<VmView>("inspect", "changed");
    const before = await hashFile(diskOf(home, vm));
    await home.ok("image", "promote", "changed", "--name", "made:1", "--label", "a=b", "--cmd", '["busybox", "true"]', "-m", "a word");
    assert.equal(await hashFile(diskOf(home, vm)), before, "its disk was only read");
    assert.equal(await home.ok("run", "--rm", ...MEMORY, "made:1", "--", ...inVm(DESCRIBE)), shown);

    const image = await inspectImage(home, "made:1");
    assert.deepEqual([image.config.cmd, image.config.labels["a"]], [["busybox", "true"], "b"]);
    const { stdout } = await runTool("tar", ["-tzf", layerOf(home, image)], { signal });
    const names = text(stdout).trim().split("\n");
    const ours = names.filter((name) => /^(?:\.\/)?(?:proc|sys|dev|run|etc|lib)(?:\/|$)/.test(name));
    assert.deepEqual(ours, []);
    assert.equal(names.length, new Set(names).size);
    assert.ok(names.length < 45, `${names.length} entries: ${names.join(" ")}`);

    await unpacked(home, { context, name: "made:1", shown });
    await home.ok("start", "changed");
    assert.equal(await home.ok("exec", "changed", "--", ...inVm(DESCRIBE)), shown);
  });

  test("I25 what was synced before a VM was killed is in its image; the same again is the same, and other content no less than --replace takes its name", async () => {
    const write = "import os; f = open('/synced', 'w'); f.write('kept'); f.flush(); os.fsync(f.fileno()); d = os.open('/', 0); os.fsync(d)";
    await home.ok("start", "changed");
    await home.ok("exec", "changed", "--", ...inVm(write));
    await home.ok("kill", "changed");
    await home.ok("wait", "changed");
    await home.ok("commit", "changed", "killed:1");
    assert.equal(await home.ok("run", "--rm", ...MEMORY, "killed:1", "--", "busybox", "cat", "/synced"), "kept");
    const { digest } = await inspectImage(home, "killed:1");
    const [first, second] = await Promise.all(
      [1, 2].map(() => home.json<ImageDetails>("image", "promote", "changed", "--name", "killed:1")),
    );
    assert.deepEqual([first?.digest, second?.digest], [digest, digest]);
    const conflict = await home.kiln(["image", "promote", "changed", "--name", "killed:1", "--label", "other=1", "--json"]);
    assert.match(conflict.stderr, /IMAGE_NAME_CONFLICT/);
    assert.equal((await inspectImage(home, "killed:1")).digest, digest);
    const moved = await home.json<ImageDetails>("image", "promote", "changed", "--name", "killed:1", "--label", "other=1", "--replace");
    assert.notEqual(moved.digest, digest);
    await home.ok("rm", "changed");
    await home.ok("rmi", "killed:1", "made:1");
    assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
  });
});

/** What umoci makes of the saved image, by way of skopeo, is the tree that the guest showed. */
const unpacked = async (
  home: TestHome,
  { context, name, shown }: { context: { after(fn: () => Promise<void>): void }; name: string; shown: string },
) => {
  const directory = await mkdtemp(join(tmpdir(), "kiln-promoted-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const archive = join(directory, "image.tar");
  await home.ok("save", "-o", archive, name);
  await runTool("skopeo", ["copy", "--quiet", `oci-archive:${archive}`, `oci:${directory}/layout:one`], { signal });
  await runTool("umoci", ["unpack", "--image", `${directory}/layout:one`, join(directory, "bundle")], { signal });
  const script = ["-c", DESCRIBE, join(directory, "bundle/rootfs")];
  const { stdout } = await runTool("python3", script, {
    signal,
    env: { PATH: process.env["PATH"] ?? "", PYTHONDONTWRITEBYTECODE: "1" },
  });
  // umoci reads times to the second where tar has more, and knows nothing of mount points that the image lacks
  const withoutTimes = (text: string): string[] => text.split("\n").map((line) => line.replace(/^(\S+ \S+ \S+ \S+) -?\d+/, "$1"));
  assert.deepEqual(withoutTimes(text(stdout)).slice(1), withoutTimes(shown).slice(1));
};

const CUSTOMIZE = ["--name", "made:1", "--run", "echo hi > /hello; echo said", "--memory", "256m"];

describe("an image from commands", () => {
  const customize = (...args: string[]): Promise<Outcome> => home.kiln(["image", "customize", "deb:busybox-static", ...args]);

  test("I1 commands run once for all who ask at once, and who asks again finds it; --no-cache runs them again", async () => {
    const [one, two] = await Promise.all([customize(...CUSTOMIZE), customize(...CUSTOMIZE, "--name", "made:2")]);
    assert.deepEqual([one.code, two.code], [0, 0], one.stderr + two.stderr);
    assert.match(one.stderr, /^ {2}said$/m);
    const operations = await home.json<OperationView[]>("op", "ls", "-a");
    const runs = operations.filter(({ kind, joined }) => kind === "customize.run" && joined === null);
    assert.equal(runs.length, 1);
    const [first, second] = await Promise.all(["made:1", "made:2"].map((name) => inspectImage(home, name)));
    assert.equal(first?.digest, second?.digest);
    assert.equal(await home.ok("run", "--rm", ...MEMORY, "made:1", "--", "busybox", "cat", "/hello"), "hi\n");
    const again = await customize(...CUSTOMIZE);
    assert.deepEqual([again.code, again.stderr], [0, ""]);
    assert.match(again.stdout, /up to date/);
    assert.match((await customize(...CUSTOMIZE, "--no-cache")).stderr, /IMAGE|conflict|another image/);
    assert.match((await customize(...CUSTOMIZE, "--no-cache", "--name", "made:3")).stdout, /made$/m);
    await home.ok("rmi", "made:2", "made:3");
  });

  test("a command that fails is named with its code and its last words, and nothing is left", async () => {
    const failed = await customize(
      "--run",
      "true",
      "--run",
      "echo out; echo last words >&2; exit 7",
      "--name",
      "failed:1",
      "--memory",
      "256m",
    );
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /command 2 of 2 for .*failed:1 ended with 7: echo out/);
    assert.match(failed.stderr, /last words/);
    await nothingIsLeft(home, "failed");
  });

  test("I43 a VMM that dies in the middle of a command leaves nothing, and both who wait are told", async () => {
    const args = ["--run", "touch /x; busybox sleep 1000", "--memory", "256m"];
    const one = home.start(["image", "customize", "deb:busybox-static", ...args, "--name", "killed:1"]);
    const two = home.start(["image", "customize", "deb:busybox-static", ...args, "--name", "killed:2"]);
    await waitUntil(async () => (await phaseOf(home, "customize.run")) === "run 1 of 1", "the command");
    const vms = await readdir(join(home.path, "vms"));
    assert.equal(vms.length, 1);
    assert.deepEqual(await home.json("ps", "-a"), [], "it is the daemon's own");
    const { pid } = await home.json<VmView>("inspect", `builder-${vms[0]}`);
    const vmm = await identifyProcess(pid ?? 0);
    assert.ok(vmm !== null && (await signalProcess(vmm, "SIGKILL")));
    for (const { outcome } of [one, two]) assert.match((await outcome).stderr, /VM in which .* ended while command 1 of 1 ran/);
    await nothingIsLeft(home, "killed");
  });
});

const phaseOf = async (home: TestHome, kind: string): Promise<string | null> =>
  (await home.json<OperationView[]>("op", "ls")).find((one) => one.kind === kind && one.joined === null)?.phase ?? null;

const nothingIsLeft = async (home: TestHome, name: string): Promise<void> => {
  const images = await home.json<ImageDetails[]>("images");
  assert.deepEqual(
    images.filter(({ reference }) => reference.includes(name)),
    [],
  );
  await waitUntil(async () => (await readdir(join(home.path, "vms"))).length === 0, "the end of the VM's files");
  assert.deepEqual((await home.json<DfReport>("df")).orphans, []);
  await waitUntil(async () => (await readdir(join(home.path, "staging"))).length === 0, "what is built beside it");
};

const POINTS = ["begun", "booted", "ran", "stopped", "packed", "stored"].map((point) => `customize.${point}`);

describe("I43 an image from commands is whole or not there", () => {
  /** Each daemon of these homes runs VMs that are none: all above the driver is the real thing. */
  const FAKE = { KILN_DRIVER: "fake" };
  let fake: TestHome;
  before(async () => {
    await home.ok("daemon", "stop");
    fake = TestHome.at(home.path, FAKE);
    await fake.ok("create", "--name", "idle", "deb:busybox-static");
  });
  after(async () => {
    await fake.ok("rm", "idle");
    await fake.ok("daemon", "stop");
  });

  for (const [index, point] of [...POINTS, "record.customization.put.after", "image.customize.rootfs.done"].entries()) {
    test(`the daemon dies at ${point} with two callers: both get the same image from the next one`, async () => {
      await fake.ok("daemon", "stop");
      const env = { KILN_TEST: "1", KILN_FAILPOINT: `${point}=kill` };
      assert.equal((await fake.kiln(["daemon", "start"], { env })).code, 0);
      const names = [`one:${index}`, `two:${index}`];
      const ask = (name: string) =>
        fake.kiln(["image", "customize", "deb:busybox-static", "--run", `echo ${index}`, "--name", name, "--json"]);
      const outcomes = await Promise.all(names.map(ask));
      for (const { code, stderr } of outcomes) assert.equal(code, 0, stderr);
      const [one, two] = outcomes.map(({ stdout }) => JSON.parse(stdout) as ImageDetails);
      assert.equal(one?.digest, two?.digest);
      assert.ok((await fake.daemonLog()).includes(`failpoint ${point} kill`), "it died there");
      assert.deepEqual(await readdir(join(fake.path, "staging")), []);
      assert.deepEqual(await readdir(join(fake.path, "vms")), [], "the VM that people know was never started");
      assert.deepEqual((await fake.json<DfReport>("df")).orphans, []);
    });
  }

  test("I3 two who promote other content under one name at once: one wins, the other is told, and the name leads to the winner's image", async () => {
    await fake.ok("daemon", "stop");
    const env = { KILN_TEST: "1", KILN_FAILPOINT: "image.naming:2=gather" };
    assert.equal((await fake.kiln(["daemon", "start"], { env })).code, 0);
    const ask = (label: string) => fake.kiln(["image", "promote", "idle", "--name", "raced:1", "--label", `who=${label}`, "--json"]);
    const outcomes = await Promise.all([ask("one"), ask("two")]);
    const [won, lost] = outcomes.toSorted((a, b) => a.code - b.code);
    assert.deepEqual([won?.code, lost?.code], [0, 1], outcomes.map(({ stderr }) => stderr).join());
    assert.match(lost?.stderr ?? "", /IMAGE_NAME_CONFLICT/);
    const named = await inspectImage(fake, "raced:1");
    assert.equal(named.digest, (JSON.parse(won?.stdout ?? "{}") as ImageDetails).digest);
    for (const digest of [named.digest, named.configDigest, ...named.layerList.map((layer) => layer.digest)]) {
      assert.equal(`sha256:${await hashFile(join(fake.path, "content/sha256", digest.slice("sha256:".length)))}`, digest);
    }
  });
});
