import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";

const ROOT = resolve(import.meta.dirname, "..");
const ARCH = process.arch;

interface Answer {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Checkout {
  readonly root: string;
  /** Runs a program in it, with the stand-ins for npm and apt first on PATH. */
  run(
    command: string,
    args: readonly string[],
    options?: { env?: NodeJS.ProcessEnv; cwd?: string; killOnceThereIs?: string },
  ): Promise<Answer>;
  /** A line for each `npm ci` that began: the version of the Node that npm runs on, and the arguments. */
  installs(): Promise<readonly string[]>;
}

const LOCK = JSON.stringify({ packages: { "": {}, [`node_modules/node-linux-${ARCH}`]: { version: "1.0.0", integrity: "sha512-x" } } });

/** A stand-in for npm that takes a moment and leaves what npm leaves, the hidden lockfile last. */
const NPM = `#!/bin/sh
[ "$1" = ci ] || exit 0
echo "$(node -p process.versions.node) $*" >>"$COUNT"
rm -rf node_modules
mkdir -p node_modules/node-linux-${ARCH}/bin
echo '{}' >node_modules/node-linux-${ARCH}/package.json
ln -s '${process.execPath}' node_modules/node-linux-${ARCH}/bin/node
sleep 0.4
cp package-lock.json node_modules/.package-lock.json
`;

const writeScript = async (path: string, text: string): Promise<void> => {
  await writeFile(path, text);
  await chmod(path, 0o755);
};

const runIn = async (root: string, bin: string, [command, args, options]: Parameters<Checkout["run"]>): Promise<Answer> => {
  const env = {
    PATH: [bin, "/usr/bin", "/bin"].join(delimiter),
    HOME: root,
    COUNT: join(root, "count"),
    KILN_SKIP_HOST_PACKAGES: "1",
    ...options?.env,
  };
  const child = spawn(command, args, { cwd: options?.cwd ?? root, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (stderr += String(chunk)));
  const { promise, resolve: answer, reject } = Promise.withResolvers<Answer>();
  child.on("error", reject);
  child.on("close", (code, signal) => answer({ code, signal, stdout, stderr }));
  if (options?.killOnceThereIs !== undefined) {
    while (!existsSync(options.killOnceThereIs) || statSync(options.killOnceThereIs).size === 0) await setTimeout(5);
    process.kill(-(child.pid ?? 0), "SIGKILL");
  }
  return promise;
};

const createCheckout = async (context: TestContext): Promise<Checkout> => {
  const scratch = await mkdtemp(join(tmpdir(), "kiln-bootstrap-"));
  context.after(() => rm(scratch, { recursive: true, force: true }));
  const root = join(scratch, "a path with spaces");
  const bin = join(scratch, "bin");
  for (const folder of [
    bin,
    join(root, "scripts"),
    join(root, "guest/agent"),
    join(root, "packages/daemon/native"),
    join(root, "packages/cli/bin"),
  ])
    await mkdir(folder, { recursive: true });
  for (const path of ["kiln", "scripts/bootstrap", "scripts/npm-tree.ts"]) await copyFile(join(ROOT, path), join(root, path));
  await writeFile(join(root, "package.json"), '{"type":"module"}');
  await writeFile(join(root, "package-lock.json"), LOCK);
  await writeFile(
    join(root, "packages/cli/bin/kiln.mjs"),
    "console.log(JSON.stringify({ cwd: process.cwd(), args: process.argv.slice(2) }));\n",
  );
  await writeFile(join(root, "guest/agent/build"), 'echo built >>"$COUNT.agent"\necho agent >"$1"\nchmod +x "$1"\n');
  await writeFile(join(root, "packages/daemon/native/build"), 'echo helper >"$1"\nchmod +x "$1"\n');
  await writeFile(join(root, "guest/agent/init.c"), "int main;\n");
  await writeScript(join(bin, "npm"), NPM);
  await symlink(process.execPath, join(bin, "node"));
  return {
    root,
    run: (...call) => runIn(root, bin, call),
    installs: async () => (existsSync(join(root, "count")) ? await readFile(join(root, "count"), "utf8") : "").split("\n").slice(0, -1),
  };
};

/** The few programs of a machine without QEMU and compiler, `id` and `apt-get` among them as stand-ins; apt's calls go to a file. */
const createBareMachine = async (checkout: Checkout, uid: number): Promise<{ env: NodeJS.ProcessEnv; calls: () => Promise<string> }> => {
  const bin = join(checkout.root, "../bare");
  const log = join(checkout.root, "../apt.log");
  await mkdir(bin);
  const programs = "sh chmod dirname uname mkdir find sort cksum flock cmp rm cat mv cp ln sleep tail sed node".split(" ");
  for (const name of programs) await symlink(name === "node" ? process.execPath : join("/usr/bin", name), join(bin, name));
  await copyFile(join(checkout.root, "../bin/npm"), join(bin, "npm"));
  await writeScript(join(bin, "id"), `#!/bin/sh\necho ${uid}\n`);
  await writeScript(join(bin, "apt-get"), `#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >>'${log}'\n`);
  await writeFile(log, "");
  return { env: { PATH: bin, KILN_SKIP_HOST_PACKAGES: "" }, calls: () => readFile(log, "utf8") };
};

/** Edits are later than the stamp, on any file system. */
const touch = (path: string): Promise<void> => utimes(path, Date.now() / 1000 + 2, Date.now() / 1000 + 2);

test("twenty first uses at once install once, and all of them run what was asked", async (context) => {
  const checkout = await createCheckout(context);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => checkout.run("./kiln", [`call ${index}`])));
  for (const [index, { code, stdout, stderr }] of answers.entries()) {
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), { cwd: checkout.root, args: [`call ${index}`] });
  }
  assert.equal((await checkout.installs()).length, 1);
  assert.equal(await readFile(join(checkout.root, "count.agent"), "utf8"), "built\n");
});

test("an installation that was killed half-way is not taken for whole", async (context) => {
  const checkout = await createCheckout(context);
  const killed = await checkout.run("./kiln", ["ps"], { killOnceThereIs: join(checkout.root, "count") });
  assert.equal(killed.signal, "SIGKILL");
  assert.equal((await checkout.installs()).length, 1);
  const next = await checkout.run("./kiln", ["ps"]);
  assert.equal(next.code, 0, next.stderr);
  assert.equal((await checkout.installs()).length, 2);
});

test("a later use is silent, and starts no program but node", async (context) => {
  const checkout = await createCheckout(context);
  await checkout.run("./kiln", ["ps"]);
  const { code, stdout, stderr } = await checkout.run("./kiln", ["ps", "-a"], { env: { PATH: "/nonexistent" } });
  assert.equal(code, 0, stderr);
  assert.deepEqual(JSON.parse(stdout), { cwd: checkout.root, args: ["ps", "-a"] });
  assert.equal(stderr, "");
});

test("it runs from any directory, through a symlink, and by its name on PATH", async (context) => {
  const checkout = await createCheckout(context);
  const elsewhere = join(checkout.root, "..");
  await symlink(join(checkout.root, "kiln"), join(elsewhere, "one"));
  await symlink("one", join(elsewhere, "two"));
  for (const [command, env] of [
    [join(checkout.root, "kiln"), {}],
    ["./a path with spaces/kiln", {}],
    ["./two", {}],
    ["sh", {}],
  ] as const) {
    const args = command === "sh" ? ["-c", "PATH=$PATH:. ; two x"] : ["x"];
    const { stdout, stderr } = await checkout.run(command, args, { cwd: elsewhere, env });
    assert.deepEqual(JSON.parse(stdout || "null"), { cwd: elsewhere, args: ["x"] }, `${command}: ${stderr}`);
  }
});

test("a changed agent is built again, a changed lockfile installed again, and a lockfile only touched is not", async (context) => {
  const checkout = await createCheckout(context);
  await checkout.run("./kiln", ["ps"]);
  await touch(join(checkout.root, "package-lock.json"));
  await checkout.run("./kiln", ["ps"]);
  assert.equal((await checkout.installs()).length, 1);
  await writeFile(join(checkout.root, "guest/agent/init.c"), "int other;\n");
  await touch(join(checkout.root, "guest/agent/init.c"));
  await checkout.run("./kiln", ["ps"]);
  assert.equal(await readFile(join(checkout.root, "count.agent"), "utf8"), "built\nbuilt\n");
  await writeFile(join(checkout.root, "package-lock.json"), LOCK.replace("sha512-x", "sha512-y"));
  await touch(join(checkout.root, "package-lock.json"));
  await checkout.run("./kiln", ["ps"]);
  assert.equal((await checkout.installs()).length, 2);
});

test("what npm says is shown when it fails, with a log to read, and the next use tries again", async (context) => {
  const checkout = await createCheckout(context);
  const npm = join(checkout.root, "../bin/npm");
  await writeScript(npm, '#!/bin/sh\n[ "$1" = ci ] || exit 0\necho "no route to the registry" >&2\nexit 7\n');
  const failed = await checkout.run("./kiln", ["ps"]);
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /npm ci failed \(exit code 7\).*bootstrap\.log/s);
  assert.match(failed.stderr, /no route to the registry/);
  assert.equal(failed.stdout, "");
  await writeScript(npm, NPM);
  assert.equal((await checkout.run("./kiln", ["ps"])).code, 0);
});

test("root gets the missing host packages by apt, after fresh lists and without questions", async (context) => {
  const checkout = await createCheckout(context);
  const machine = await createBareMachine(checkout, 0);
  const { code, stderr } = await checkout.run("./kiln", ["ps"], { env: machine.env });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /installing host packages with apt: .*qemu-system-(x86|arm).*\n.*installing npm packages/);
  const [update = "", install = ""] = (await machine.calls()).split("\n");
  assert.match(update, /^noninteractive .*update$/);
  assert.match(install, /^noninteractive .*install -y --no-install-recommends .*qemu-system-(x86|arm) .*musl-tools/);
});

test("anybody else is told the one line that root has to run, and nothing is begun", async (context) => {
  const checkout = await createCheckout(context);
  const machine = await createBareMachine(checkout, 1000);
  const { code, stdout, stderr } = await checkout.run("./kiln", ["ps"], { env: machine.env });
  assert.deepEqual([code, stdout, await machine.calls(), (await checkout.installs()).length], [1, "", "", 0]);
  assert.match(stderr, /^ {2}sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends .*musl-tools.*'$/m);
});

test("what tells about Kiln or the machine runs without host packages, apt, root and agent", async (context) => {
  const checkout = await createCheckout(context);
  const machine = await createBareMachine(checkout, 1000);
  await rm(join(checkout.root, "../bare/apt-get"));
  for (const args of [["doctor"], ["doctor", "--json"], ["help", "run"], ["--version"], ["run", "--help"], []]) {
    const { code, stdout, stderr } = await checkout.run("./kiln", args, { env: machine.env });
    assert.deepEqual([code, JSON.parse(stdout || "null")], [0, { cwd: checkout.root, args }], stderr);
  }
  assert.equal((await checkout.installs()).length, 1);
  assert.equal(existsSync(join(checkout.root, "count.agent")), false);
  const { code, stdout, stderr } = await checkout.run("./kiln", ["run", "deb:hello", "--help"], { env: machine.env });
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /there is no apt: .*qemu-system-(x86|arm).*\n.*KILN_SKIP_HOST_PACKAGES=1.*\n.*\.\/kiln doctor/);
});

test("a machine that Kiln does not run on is told so", async (context) => {
  const checkout = await createCheckout(context);
  await writeScript(join(checkout.root, "../bin/uname"), '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo riscv64\n');
  const other = await checkout.run("./kiln", ["ps"]);
  assert.deepEqual([other.code, other.stderr], [1, "kiln: Kiln runs on x86_64 and arm64; this machine is riscv64\n"]);
  await writeScript(join(checkout.root, "../bin/uname"), "#!/bin/sh\necho Darwin\n");
  const mac = await checkout.run("./kiln", ["ps"]);
  assert.deepEqual([mac.code, mac.stderr], [1, "kiln: Kiln runs on Linux; this is Darwin\n"]);
});

test("npm runs on the pinned Node where the machine's is old, since it leaves out what wants a newer one", async (context) => {
  const checkout = await createCheckout(context);
  const node = join(checkout.root, "../bin/node");
  await rm(node);
  await writeScript(node, '#!/bin/sh\n[ "$2" = process.versions.node ] && echo 18.20.4 || echo false\n');
  const { code, stderr } = await checkout.run("./kiln", ["ps"]);
  assert.equal(code, 0, stderr);
  const [first = "", second = ""] = await checkout.installs();
  assert.match(first, /^18\.20\.4 ci .*--omit=dev/);
  assert.match(second, /^(?!18).* ci .*--include=dev/);
});

test("an optional package for this machine that npm left out makes the tree incomplete, one for another machine does not", async (context) => {
  const checkout = await createCheckout(context);
  const lock = JSON.parse(LOCK) as { packages: Record<string, object> };
  lock.packages["node_modules/other"] = { version: "1.0.0", integrity: "sha512-o", optional: true, os: ["darwin"], cpu: ["arm64"] };
  await writeFile(join(checkout.root, "package-lock.json"), JSON.stringify(lock));
  await writeScript(
    join(checkout.root, "../bin/npm"),
    NPM.replace("cp package-lock.json", `echo '${LOCK}' >`).replace(" node_modules/.package", "node_modules/.package"),
  );
  assert.equal((await checkout.run("./kiln", ["ps"])).code, 0);
  lock.packages["node_modules/native"] = { version: "1.0.0", integrity: "sha512-n", optional: true, os: ["linux"], cpu: [ARCH] };
  await writeFile(join(checkout.root, "package-lock.json"), JSON.stringify(lock));
  await touch(join(checkout.root, "package-lock.json"));
  const { code, stderr } = await checkout.run("./kiln", ["ps"]);
  assert.equal(code, 1);
  assert.match(stderr, /incomplete: node_modules\/native is missing/);
});
