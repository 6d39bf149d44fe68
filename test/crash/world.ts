/** After a crash and the daemon after it: what the records promise against what the operating system has. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { DaemonStatus, DfReport } from "@kiln/protocol";
import { connect } from "@kiln/sdk/node";
import { hasCode } from "@kiln/std/node";
import { KERNEL_FILES, KERNEL_MANIFEST, parseKernelManifest } from "../../packages/daemon/src/kernels/kernel-set.ts";
import { LIVE_STATES } from "../../packages/daemon/src/vms/record.ts";
import { ifThere } from "./if-there.ts";
import { type Records, readRecords } from "./records.ts";

const run = promisify(execFile);

/** The database's journal grows between the two looks. */
const DF_TOLERANCE_BYTES = 64 * 1024;
const FINAL_STATES: ReadonlySet<string> = new Set(["created", "exited", "failed", "running"]);

/**
 * What of a home whose daemon runs and has nothing to do is not as it has to be; nothing if all is well. After an error a
 * deletion may be half done: it is for who asks again, or for the next daemon.
 */
export const complaintsAbout = async (home: string, { action }: { readonly action: "kill" | "error" }): Promise<string[]> => {
  using kiln = connect({ home });
  const [status, df] = [await kiln.daemon.status(), await kiln.df()];
  const records = readRecords(home);
  return [
    ...aboutRecords(records, { mayBeDeleting: action === "error" }),
    ...aboutReservations(records, status),
    ...(await aboutFiles(home, records)),
    ...(await aboutDisk(home, df)),
    ...(await aboutProcesses(home, [status.pid])),
    ...expectEqual("sockets", await socketsIn(home), [join(home, "kiln.sock")]),
    ...expectEqual("ports that are listened at", await listenersOf(status.pid), publishedIn(records)),
    ...(await aboutMounts(home)),
  ];
};

/** The same of a home whose daemon has been stopped: nothing runs and nothing listens. */
export const complaintsAfterStop = async (home: string): Promise<string[]> => [
  ...aboutRecords(readRecords(home), { mayBeDeleting: false }),
  ...(await aboutProcesses(home, [])),
  ...expectEqual("sockets", await socketsIn(home), []),
  ...expectEqual("staging", await readdir(join(home, "staging")), []),
  ...(await aboutMounts(home)),
];

const expectEqual = (what: string, found: readonly unknown[], expected: readonly unknown[]): string[] =>
  found.toString() === expected.toString() ? [] : [`${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`];

const aboutRecords = ({ operations, sagas, vms }: Records, { mayBeDeleting }: { readonly mayBeDeleting: boolean }): string[] => [
  ...operations.map(({ kind, state }) => `an operation is left: ${kind}, ${state}`),
  ...sagas.map(({ saga, operation }) => `the saga ${saga} of ${operation} is left in the log`),
  ...vms
    .filter(({ state }) => !FINAL_STATES.has(state) && !(mayBeDeleting && state === "deleting"))
    .map(({ name, state }) => `the VM ${name} is ${state}`),
  ...vms
    .filter(({ state, vmm }) => !LIVE_STATES.has(state) && vmm !== null)
    .map(({ name, state }) => `the VM ${name} is ${state} and has a VMM`),
];

const aboutReservations = ({ vms }: Records, status: DaemonStatus): string[] => {
  const live = vms.filter(({ state }) => LIVE_STATES.has(state));
  const sum = (field: "memoryBytes" | "cpus" | "diskBytes", of: typeof vms): number => of.reduce((total, vm) => total + vm[field], 0);
  const { capacity } = status;
  return [
    ...expectEqual("VMs that run", [status.vms.running], [live.length]),
    ...expectEqual("memory that is reserved", [capacity.memoryBytes.reserved], [sum("memoryBytes", live)]),
    ...expectEqual("CPUs that are reserved", [capacity.cpus.reserved], [sum("cpus", live)]),
    ...expectEqual("disks that are promised", [capacity.diskBytes.reserved], [sum("diskBytes", vms)]),
    ...expectEqual("callers that wait", [capacity.waiting, capacity.boots.running, capacity.boots.queued], [0, 0, 0]),
  ];
};

/** No record without its file, whole: every byte of blobs and rootfs is hashed, and the kernel's by its manifest. */
const aboutFiles = async (home: string, records: Records): Promise<string[]> => {
  const blobs = new Map(
    records.images.flatMap(({ image, root }) => [
      ...image.layers.map(({ digest, size }) => [digest, size] as const),
      ...[image.manifestDigest, image.configDigest, root].map((digest) => [digest, null] as const),
    ]),
  );
  const files = [
    ...[...blobs].map(([digest, size]) => ({ path: join(home, "content/sha256", digest.slice("sha256:".length)), digest, size })),
    ...records.rootfs.map(({ key, digest, fingerprint }) => ({
      path: join(home, "rootfs", `${key}.ext4`),
      digest,
      size: fingerprint.size,
    })),
    ...records.preboots.flatMap(({ key, map, state }) => [
      { path: join(home, "preboots", key, "memory"), digest: "", size: map.bytes },
      { path: join(home, "preboots", key, "state"), digest: `sha256:${state.sha256}`, size: state.size },
    ]),
    ...(await Promise.all(records.kernels.map(({ key }) => kernelFiles(join(home, "kernels", key), key)))).flat(),
  ];
  const damaged = await Promise.all(files.map(isDamaged));
  return files.filter((_, index) => damaged[index]).map(({ path }) => `${path} is missing or damaged, and a record promises it`);
};

const kernelFiles = async (directory: string, key: string): Promise<Expected[]> => {
  const text = await ifThere(readFile(join(directory, KERNEL_MANIFEST), "utf8"), "");
  if (text === "") return [{ path: directory, digest: "", size: null }];
  const { files } = parseKernelManifest(text, key);
  return KERNEL_FILES.map((name) => ({ path: join(directory, name), digest: `sha256:${files[name].sha256}`, size: files[name].size }));
};

interface Expected {
  readonly path: string;
  /** Empty where the record has none of the file as it is. */
  readonly digest: string;
  readonly size: number | null;
}

/** Larger files are looked at by size: the daemon hashes them itself before it uses them. */
const HASHED_BYTES = 16 * 2 ** 20;

const isDamaged = async ({ path, digest, size }: Expected): Promise<boolean> => {
  const found = await ifThere<Stats | null>(stat(path), null);
  if (found === null || !found.isFile() || (size !== null && found.size !== size)) return true;
  if (found.size > HASHED_BYTES || digest === "") return false;
  const hash = createHash("sha256").update(await readFile(path));
  return `sha256:${hash.digest("hex")}` !== digest;
};

const aboutDisk = async (home: string, df: DfReport): Promise<string[]> => {
  const { stdout } = await run("du", ["-s", "--block-size=1", home]);
  const du = Number(stdout.split("\t")[0]);
  const isEqual = Math.abs(df.total.diskBytes - du) <= DF_TOLERANCE_BYTES;
  return [
    ...expectEqual("orphans", df.orphans, []),
    ...expectEqual("staging", await readdir(join(home, "staging")), []),
    ...(isEqual ? [] : [`df says ${df.total.diskBytes} bytes, du says ${du}`]),
  ];
};

/** A second daemon that was started at the same time sees that the home is held, and ends. */
const SECOND_DAEMON_MS = 5_000;
const POLL_MS = 20;

const aboutProcesses = async (home: string, expected: readonly number[]): Promise<string[]> => {
  const deadline = Date.now() + SECOND_DAEMON_MS;
  for (;;) {
    const complaints = expectEqual("processes", await processesOf(home), expected);
    if (complaints.length === 0 || Date.now() > deadline) return complaints;
    await sleep(POLL_MS);
  }
};

/** Every process that carries the home's path in its command line, its environment or as its working directory. */
export const processesOf = async (home: string): Promise<number[]> => {
  const pids = (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name));
  const carries = async (pid: string): Promise<boolean> => {
    const words = [
      await ifThere(readFile(`/proc/${pid}/cmdline`, "utf8"), ""),
      await ifThere(readFile(`/proc/${pid}/environ`, "utf8"), ""),
      await ifThere(readlink(`/proc/${pid}/cwd`), ""),
    ];
    return words.some((text) => text.includes(home));
  };
  const found = await Promise.all(pids.map(async (pid) => ((await carries(pid)) ? [Number(pid)] : [])));
  return found.flat();
};

/** Returns when there is none any more. */
export const endProcessesOf = async (home: string): Promise<void> => {
  for (;;) {
    const pids = await processesOf(home);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch (error) {
        if (!hasCode(error, "ESRCH")) throw error;
      }
    }
    await sleep(POLL_MS);
  }
};

/** TCP's state of a listener in /proc/net (include/net/tcp_states.h). */
const LISTENS = "0A";

/** The TCP ports at which a process listens. */
const listenersOf = async (pid: number): Promise<number[]> => {
  const links = (await readdir(`/proc/${pid}/fd`)).map((fd) => ifThere(readlink(`/proc/${pid}/fd/${fd}`), ""));
  const own = new Set(await Promise.all(links));
  const lines = (await Promise.all(["tcp", "tcp6"].map((table) => readFile(`/proc/${pid}/net/${table}`, "utf8")))).join("\n").split("\n");
  const rows = lines.map((line) => line.trim().split(/\s+/));
  return rows
    .filter((row) => row[3] === LISTENS && own.has(`socket:[${row[9]}]`))
    .map((row) => Number.parseInt(row[1]?.split(":")[1] ?? "", 16))
    .sort((a, b) => a - b);
};

const publishedIn = ({ vms }: Records): number[] =>
  vms
    .filter(({ state }) => LIVE_STATES.has(state))
    .flatMap(({ ports }) => ports.map(({ hostPort }) => hostPort))
    .sort((a, b) => a - b);

const socketsIn = async (directory: string): Promise<string[]> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isSocket()).map((entry) => join(entry.parentPath, entry.name));
};

const aboutMounts = async (home: string): Promise<string[]> => {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").filter((line) => line.includes(home));
  return expectEqual("mounts", mounts, []);
};
