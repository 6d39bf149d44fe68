/** The operations of the matrix: its columns. */
import { execFile } from "node:child_process";
import { appendFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ErrorCode } from "@kiln/protocol";
import { connect } from "@kiln/sdk/node";
import { flipByte } from "../../packages/daemon/src/operations/testing/real-artifacts.ts";
import { type TestHome, waitUntil } from "../e2e/home.ts";
import { readRecords } from "./records.ts";
import { BASE, type Stage } from "./stage.ts";

const run = promisify(execFile);

export type Command = readonly string[];

export interface CrashOperation {
  readonly name: string;
  /** From which of the stage's homes it begins. */
  readonly from?: "template" | "withoutKernel";
  /** Makes what has to be there before, once: each cell gets a copy. Its daemon need not be stopped. */
  readonly prepare?: (home: TestHome, stage: Stage) => Promise<void>;
  /** What it prints where it succeeds: once, whatever happens to the daemon. */
  readonly prints?: string;
  /** Run before the command in the daemon that is to die. */
  readonly before?: readonly Command[];
  readonly command: (stage: Stage) => Command;
  /** How a second time is said, where the words differ. */
  readonly again?: Command;
  readonly env?: Readonly<Record<string, string>>;
  /** A failpoint at which it fails by itself, so that it is taken back. */
  readonly failsAt?: string;
  /** It starts a daemon, so that what a daemon does before its first request is a part of it. */
  readonly isStart?: boolean;
  /** It takes seconds: the tests leave it to `npm run crash-matrix`. */
  readonly isSlow?: boolean;
  /** The failpoints that are its own; at the others it is another operation of the table. */
  readonly only?: { readonly points: RegExp; readonly reason: string };
  /** `prepare` ends its daemon with work under way; the next one begins with that. */
  readonly leavesCrash?: boolean;
  /** Errors with which the command may end where its daemon dies: see outcomes.ts for why. */
  readonly mayEndWith?: readonly ErrorCode[];
  /** The same where it depends on who is faster, so that a run may be without it. */
  readonly mightEndWith?: readonly ErrorCode[];
}

/** The fake driver's VMs start from snapshots only where that is said. */
const PREBOOT = { KILN_PREBOOT: "on" };
/** What a daemon takes up at once and without a wait it meets again before a client can have asked it, and dies of again. */
const DIES_AGAIN: readonly ErrorCode[] = ["DAEMON_UNREACHABLE"];
const VM = ["--disk", "64m", BASE, "--"];

const create = async (home: TestHome, name: string, ...command: string[]): Promise<void> => {
  await home.ok("create", "--name", name, ...VM, ...command);
};

/** Failpoints that no command meets, each with its reason. */
export const UNMET: Readonly<Record<string, string>> = {
  "record.operation.forgetKey.before":
    "the command line makes a new key for each request; a client that sends an old one a day later is a unit test",
  "record.operation.forgetKey.after": "the same",
};

/** Ends the daemon in the middle of a create, a start, a delete and a pull at once. */
const crashInTheMiddle = async (home: TestHome, { remote }: Stage): Promise<void> => {
  await create(home, "stopped", "true");
  await create(home, "unwanted", "true");
  await home.ok("daemon", "stop");
  const points = ["vm.create.reserve.done", "vm.start.boot.recorded", "vm.delete.files.done", "image.ensure.rootfs.begun"];
  const env = { KILN_TEST: "1", KILN_FAILPOINT: points.map((point) => `${point}=pause`).join() };
  await home.kiln(["daemon", "start"], { env });
  using kiln = connect({ home: home.path });
  await kiln.vms.create({ image: BASE, name: "fresh", command: ["true"] });
  await kiln.vms.start("stopped");
  await kiln.vms.remove("unwanted");
  await kiln.images.pull(remote.fresh);
  await waitUntil(async () => (await home.daemonLog()).split(" pause\n").length > points.length, "four operations in their middle");
  await home.killDaemon();
};

/** A fake guest has no disk to write to: what it would have left there is put there. */
const writeUpper = async (home: TestHome, name: string): Promise<void> => {
  await home.ok("run", "-d", "--name", name, ...VM, "true");
  await home.ok("wait", name);
  const { id } = await home.json<{ id: string }>("inspect", name);
  const file = join(home.path, "written");
  await writeFile(file, "written by the guest\n");
  const commands = ["mkdir upper", `write ${file} upper/written`];
  for (const command of commands) await run("debugfs", ["-w", "-R", command, join(home.path, "vms", id, "writable.ext4")]);
  await rm(file);
};

/** As a failing disk would: the file has other bytes than were published. */
const damageRootfs = async (home: TestHome): Promise<void> => {
  await create(home, "web", "true");
  for (const { key } of readRecords(home.path).rootfs) await appendFile(join(home.path, "rootfs", `${key}.ext4`), "damage");
};

/** An image that is only loaded has no rootfs yet. */
const buildBase = (home: TestHome): Promise<void> => create(home, "web", "true");

/** And something that was read before has gone since. */
const damageBase = async (home: TestHome, { remote }: Stage): Promise<void> => {
  await buildBase(home);
  await home.ok("pull", remote.old);
  await home.ok("scrub");
  await home.ok("rmi", remote.old);
  await home.ok("daemon", "stop");
  for (const { key } of readRecords(home.path).rootfs) await flipByte(join(home.path, "rootfs", `${key}.ext4`), 66 * 4096);
};

const damageBlob = async (home: TestHome, { remote }: Stage): Promise<void> => {
  await home.ok("pull", remote.fresh);
  await home.ok("daemon", "stop");
  const pulled = readRecords(home.path).images.find(({ reference }) => reference === remote.fresh);
  for (const { digest } of pulled?.image.layers ?? []) {
    await flipByte(join(home.path, "content/sha256", digest.slice("sha256:".length)), 600);
  }
};

/** As a name in a registry that leads elsewhere since it was pulled. */
const pullOld = async (home: TestHome, { remote }: Stage): Promise<void> => {
  await home.ok("pull", remote.old);
  await home.ok("tag", remote.old, remote.fresh);
  await home.ok("rmi", remote.old);
};

export const OPERATIONS: readonly CrashOperation[] = [
  {
    name: "daemon start",
    command: () => ["daemon", "start"],
    isStart: true,
    mayEndWith: ["DAEMON_UNREACHABLE"],
  },
  {
    name: "daemon start after a crash",
    prepare: crashInTheMiddle,
    leavesCrash: true,
    command: () => ["daemon", "start"],
    isStart: true,
    mayEndWith: ["DAEMON_UNREACHABLE"],
  },
  {
    name: "daemon start with another agent",
    prepare: async (home) => {
      const run = await home.kiln(["run", "--rm", "--start", "preboot", ...VM, "true"], { env: PREBOOT });
      if (run.code !== 0) throw new Error(`a VM from a snapshot: ${run.stderr}`);
      await writeFile(join(home.path, "cache/agent"), "another agent");
    },
    env: { ...PREBOOT, KILN_AGENT: "cache/agent" },
    command: () => ["daemon", "start"],
    isStart: true,
    only: {
      points: /^record\.(kernel|preboot)\./,
      reason: "it is a daemon's start but for the old kernel and its snapshots, which it forgets",
    },
    mayEndWith: ["DAEMON_UNREACHABLE"],
  },
  { name: "create", command: () => ["create", ...VM, "true"] },
  {
    name: "create, failing",
    command: () => ["create", ...VM, "true"],
    failsAt: "vm.create.reserve.recorded",
    mayEndWith: ["INTERNAL", "INTERRUPTED"],
  },
  {
    name: "create without kernel",
    from: "withoutKernel",
    isSlow: true,
    command: () => ["create", ...VM, "true"],
    only: { points: /^(kernel|record\.kernel|publish)\./, reason: "it is a create but for the kernel that it builds, for seconds" },
  },
  { name: "run -d", command: () => ["run", "-d", ...VM, "true"], mayEndWith: ["VM_DIED"] },
  { name: "run --rm", command: () => ["run", "--rm", ...VM, "echo", "hello"], prints: "hello\n", mayEndWith: ["VM_DIED"] },
  {
    name: "run --start preboot",
    env: PREBOOT,
    command: () => ["run", "-d", "--start", "preboot", ...VM, "true"],
    only: { points: /preboot|^publish\./, reason: "it is a run -d but for the snapshot that it builds first" },
  },
  { name: "kernel warm", env: PREBOOT, command: () => ["kernel", "warm"] },
  {
    name: "start",
    prepare: (home) => create(home, "web", "true"),
    command: () => ["start", "web"],
    mayEndWith: ["VM_DIED"],
  },
  {
    name: "start, failing",
    prepare: (home) => create(home, "web", "true"),
    command: () => ["start", "web"],
    failsAt: "vm.start.live.recorded",
    mayEndWith: ["INTERNAL", "INTERRUPTED", "VM_DIED"],
  },
  {
    name: "start, rootfs damaged",
    prepare: damageRootfs,
    command: () => ["start", "web"],
    only: { points: /rootfs|^publish\./, reason: "it is a start but for the rootfs that it builds again" },
  },
  {
    name: "stop",
    prepare: (home) => create(home, "web", "sleep", "1000"),
    before: [["start", "web"]],
    command: () => ["stop", "web"],
  },
  {
    name: "kill",
    prepare: (home) => create(home, "web", "sleep", "1000"),
    before: [["start", "web"]],
    command: () => ["kill", "web"],
    again: ["stop", "web"],
    mayEndWith: ["VM_NOT_RUNNING"],
  },
  {
    name: "rm -f",
    prepare: (home) => create(home, "web", "sleep", "1000"),
    before: [["start", "web"]],
    command: () => ["rm", "-f", "web"],
  },
  {
    name: "port add",
    prepare: (home) => create(home, "web", "true"),
    command: () => ["port", "add", "web", "18080:80"],
    only: { points: /^record\.vm\.ports\./, reason: "it is a request like a tag but for the VM's ports" },
  },
  {
    name: "port rm",
    prepare: async (home) => {
      await create(home, "web", "true");
      await home.ok("port", "add", "web", "18080:80");
    },
    command: () => ["port", "rm", "web", "80"],
    again: ["port", "web"],
    only: { points: /^record\.vm\.ports\./, reason: "it is a request like a tag but for the VM's ports" },
  },
  {
    name: "run -d -p",
    command: () => ["run", "-d", "-p", "80", ...VM, "sleep", "1000"],
    only: { points: /ports\./, reason: "it is a run but for the port that the host chooses" },
  },
  { name: "pull, moved", prepare: pullOld, command: ({ remote }) => ["pull", remote.fresh] },
  {
    name: "pull deb:",
    command: () => ["pull", "deb:busybox-static"],
    isSlow: true,
    only: { points: /^(image|record\.image|publish)\./, reason: "it is a pull but for the packages that apt fetches, for seconds" },
  },
  { name: "pull oci:", command: ({ layout }) => ["pull", layout] },
  { name: "load", command: ({ archive }) => ["load", "-i", archive, "--name", "loaded"] },
  { name: "image verify", prepare: buildBase, command: () => ["image", "verify", BASE], mightEndWith: DIES_AGAIN },
  { name: "image rebuild", prepare: buildBase, command: () => ["image", "rebuild", BASE], mightEndWith: DIES_AGAIN },
  {
    name: "image rebuild, blob damaged",
    prepare: damageBlob,
    command: ({ remote }) => ["image", "rebuild", remote.fresh],
    only: { points: /^(image\.rebuild|publish|record\.saga)\./, reason: "it is a rebuild but for the blob that it fetches again" },
    mightEndWith: DIES_AGAIN,
  },
  { name: "scrub", prepare: damageBase, command: () => ["scrub"], mightEndWith: DIES_AGAIN },
  { name: "tag", command: () => ["tag", BASE, "other:latest"] },
  {
    name: "image register",
    command: ({ fileSystem }) => ["image", "register", fileSystem, "--name", "made:1"],
    mightEndWith: DIES_AGAIN,
  },
  {
    name: "image register --replace",
    prepare: (home) => home.ok("tag", BASE, "made:1").then(() => undefined),
    command: ({ fileSystem }) => ["image", "register", fileSystem, "--name", "made:1", "--replace"],
    only: { points: /^(image|record\.image)\./, reason: "it is a register but for the name that it takes" },
    mightEndWith: DIES_AGAIN,
  },
  { name: "image import", command: ({ bundle }) => ["image", "import", bundle, "--name", "made:1"], mightEndWith: DIES_AGAIN },
  {
    name: "image export",
    command: ({ root }) => ["image", "export", "-q", "-o", `${root}/out.kiln`, BASE],
    only: { points: /^(rootfs|record\.rootfs)\./, reason: "it is a pull of what is there, and a read" },
  },
  {
    name: "image promote",
    prepare: (home) => writeUpper(home, "web"),
    command: () => ["image", "promote", "web", "--name", "made:1"],
    mightEndWith: DIES_AGAIN,
  },
  {
    name: "image customize",
    command: () => ["image", "customize", BASE, "--run", "echo hello", "--name", "made:1"],
    isSlow: true,
    mightEndWith: ["VM_DIED", ...DIES_AGAIN],
  },
  { name: "rmi", command: () => ["rmi", BASE], again: ["rmi", "-f", BASE] },
  {
    name: "rmi -f, not there",
    command: () => ["rmi", "-f", "nothing:latest"],
    only: { points: /^record\.request\.forget/, reason: "it is a request like another but for its failure, whose key is forgotten" },
  },
  {
    name: "prune -a",
    prepare: async (home, { layout }) => {
      await home.ok("pull", layout);
      await home.ok("run", "-d", "--name", "done", ...VM, "true");
      await home.ok("wait", "done");
    },
    command: () => ["prune", "-af"],
  },
];
