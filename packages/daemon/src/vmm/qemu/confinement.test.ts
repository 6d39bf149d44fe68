import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile, readlink, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { TOOL_PATH } from "../../host/confined.ts";
import { type DiskSlot, MET_SLOTS, type SavedVmm, type Vmm, type VmmSpec } from "../../vms/driver.port.ts";
import { isVmmFailed } from "../driver.contract.ts";
import { BOOT_MS, openQemuStage, type QemuStage, TEST_UID } from "./stage.fixture.ts";

/** The fields of /proc/PID/status. */
const readStatus = async (pid: number): Promise<ReadonlyMap<string, string>> => {
  const lines = (await readFile(`/proc/${pid}/status`, "utf8")).split("\n");
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()] as const));
};

interface OpenFile {
  readonly name: string;
  readonly isWritable: boolean;
}

const readOpenFiles = async (pid: number): Promise<readonly OpenFile[]> =>
  Promise.all(
    (await readdir(`/proc/${pid}/fd`)).map(async (number) => {
      const flags = /^flags:\s*([0-7]+)$/m.exec(await readFile(`/proc/${pid}/fdinfo/${number}`, "latin1"))?.[1] ?? "";
      return { name: await readlink(`/proc/${pid}/fd/${number}`), isWritable: (Number.parseInt(flags, 8) & 3) !== 0 };
    }),
  );

const IS_UNNAMED = /^(socket|pipe|anon_inode):/;
const SAVED_MEMORY = "/memfd:kiln-memory (deleted)";
const MIB = 2 ** 20;

/** A VMM and what it may have open. */
interface Started {
  readonly vmm: Vmm;
  readonly readable: readonly string[];
  readonly writable: readonly string[];
  readonly fileBytes: number;
  readonly sockets: readonly string[];
}

type Begin = (stage: QemuStage, with_: { spec: VmmSpec; saved: SavedVmm; signal: AbortSignal }) => Promise<Started>;

const WRITABLE_BYTES = MIB;
const CHANNELS = ["agent.sock", "qmp.sock"];

const withDisk = async (stage: QemuStage, spec: VmmSpec): Promise<{ spec: VmmSpec; writable: string }> => {
  const writable = await stage.emptyDisk(`${spec.id}.ext4`);
  return { writable, spec: { ...spec, disks: [...spec.disks, { slot: "writable", path: writable, readOnly: false }] } };
};

const unnamed = ({ directory }: VmmSpec, slots: readonly DiskSlot[]): readonly string[] =>
  slots.map((slot) => `${join(directory, slot)}.empty (deleted)`);

/** Every way in which a QEMU of ours begins. */
const KINDS: Readonly<Record<string, Begin>> = {
  "that boots a kernel": async (stage, { spec: given, signal }) => {
    const { spec, writable } = await withDisk(stage, given);
    const { vmlinux, initramfs, modulesImage } = stage.kernel;
    const vmm = await stage.driver.boot(spec, { signal });
    return { vmm, readable: [vmlinux, initramfs, modulesImage], writable: [writable], fileBytes: WRITABLE_BYTES, sockets: CHANNELS };
  },
  "that is to be saved": async (stage, { spec, signal }) => {
    const target = { memory: join(stage.home, "memory"), state: join(stage.home, "state") };
    for (const path of [target.memory, target.state]) await writeFile(path, "", { mode: 0o600 });
    const { vmlinux, initramfs, modulesImage } = stage.kernel;
    const vmm = await stage.driver.bootToSave(spec, target, { signal });
    const readable = [vmlinux, initramfs, modulesImage, spec.directory];
    const writable = [target.memory, ...unnamed(spec, MET_SLOTS)];
    return { vmm, readable, writable, fileBytes: spec.memoryBytes, sockets: CHANNELS };
  },
  "that was restored": async (stage, { spec: given, saved, signal }) => {
    const { spec, writable } = await withDisk(stage, given);
    const vmm = await stage.driver.restore(spec, saved, { signal });
    // the state that it began with is closed
    const readable = [stage.kernel.modulesImage];
    return { vmm, readable, writable: [writable, SAVED_MEMORY], fileBytes: WRITABLE_BYTES, sockets: CHANNELS };
  },
  "that waited for its disks": async (stage, { spec, saved, signal }) => {
    const vmm = await stage.driver.restoreOpen(spec, saved, { signal });
    const writable = await stage.emptyDisk(`${spec.id}.ext4`);
    await vmm.pause({ signal });
    await vmm.attach([{ slot: "writable", path: writable, readOnly: false }], { signal });
    await vmm.resume({ signal });
    // the state that it began with is closed, and the file without bytes behind the slot that got a disk
    const readable = [stage.kernel.modulesImage];
    const files = [writable, SAVED_MEMORY, ...unnamed(spec, ["root"])];
    return { vmm, readable, writable: files, fileBytes: 16 * 2 ** 40, sockets: [...CHANNELS, "hand.sock"].sort() };
  },
};

describe("a QEMU is nobody", { timeout: BOOT_MS * 2 }, () => {
  let stage: QemuStage;
  let saved: SavedVmm & AsyncDisposable;
  before(async () => {
    stage = await openQemuStage();
    saved = await stage.save(AbortSignal.timeout(BOOT_MS));
  });
  after(async () => {
    await saved[Symbol.asyncDispose]();
    await stage[Symbol.asyncDispose]();
  });

  for (const [kind, begin] of Object.entries(KINDS)) {
    test(`10.2 one ${kind} has a uid of its own, no capability, no way to get one, a seccomp filter, limits, and nothing that was not meant for it`, async () => {
      const spec = await stage.spec(kind.replaceAll(" ", "-"));
      const started = await begin(stage, { spec, saved, signal: AbortSignal.timeout(BOOT_MS) });
      const { pid } = started.vmm.ref.identity;
      await requireNobody(pid);
      await requireLimits(pid, started.fileBytes);
      await requireFiles(pid, started);
      assert.equal((await stat(spec.directory)).mode & 0o777, 0o700);
      assert.deepEqual((await readdir(spec.directory)).toSorted(), started.sockets);
      for (const name of started.sockets) assert.equal((await stat(join(spec.directory, name))).mode & 0o777, 0o600, name);
      await started.vmm.kill();
      assert.deepEqual(await stage.remains(spec.directory), []);
    });
  }

  test("10.2 the memory that restored VMs share cannot be changed by their uid, and each may change its own view", async () => {
    const tried = await tryMemory(saved.memory);
    assert.deepEqual(tried, { write: "EPERM", reopened: "EPERM", shrink: "EPERM", grow: "EPERM", shared: "EPERM", "own view": "done" });
  });
});

const requireNobody = async (pid: number): Promise<void> => {
  const status = await readStatus(pid);
  const uid = String(TEST_UID ?? process.getuid?.());
  assert.notEqual(uid, "0");
  for (const ids of ["Uid", "Gid"]) assert.deepEqual(status.get(ids)?.split("\t"), [uid, uid, uid, uid], ids);
  if (TEST_UID !== null) assert.equal(status.get("Groups"), "");
  const bounded = TEST_UID === null ? [] : ["CapBnd"];
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb", ...bounded]) assert.equal(status.get(set), "0000000000000000", set);
  assert.equal(status.get("NoNewPrivs"), "1");
  assert.equal(status.get("Seccomp"), "2");
  assert.equal(await readlink(`/proc/${pid}/cwd`), "/");
};

const requireLimits = async (pid: number, fileBytes: number): Promise<void> => {
  const limits = await readFile(`/proc/${pid}/limits`, "utf8");
  const expected = { "core file size": 0, "open files": 256, "locked memory": 65_536, "msgqueue size": 0, "file size": fileBytes };
  for (const [name, value] of Object.entries(expected)) assert.match(limits, new RegExp(`^Max ${name} +${value} +${value} `, "m"));
};

const requireFiles = async (pid: number, { readable, writable }: Started): Promise<void> => {
  const files = (await readOpenFiles(pid)).filter(({ name }) => !IS_UNNAMED.test(name));
  const names = (isWritable: boolean): ReadonlySet<string> =>
    new Set(files.filter((file) => file.isWritable === isWritable).map(({ name }) => name));
  assert.deepEqual([...names(false)].filter((name) => name !== "/dev/null").toSorted(), readable.toSorted());
  assert.deepEqual([...names(true)].filter((name) => name !== "/dev/null").toSorted(), writable.toSorted());
  const environment = (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").map((line) => line.split("=")[0]);
  assert.deepEqual(new Set(environment), new Set(["KILN_DIR", "KILN_DRIVER", "KILN_VM", "LC_ALL", "PATH", ""]));
};

/** As whoever holds descriptor 3: each try, and how it ended. */
const TRIES = `
import errno, json, mmap, os
size = os.fstat(3).st_size
tries = {
  "write": lambda: os.pwrite(3, b"x", 0),
  "reopened": lambda: os.pwrite(os.open("/proc/self/fd/3", os.O_RDWR), b"x", 0),
  "shrink": lambda: os.ftruncate(3, 0),
  "grow": lambda: os.ftruncate(3, 2 * size),
  "shared": lambda: mmap.mmap(3, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
  "own view": lambda: mmap.mmap(3, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE).write(b"x"),
}
def outcome(run):
  try: run()
  except OSError as error: return errno.errorcode[error.errno]
  return "done"
print(json.dumps({name: outcome(run) for name, run in tries.items()}))
`;

const tryMemory = async (descriptor: number): Promise<unknown> => {
  const identity = TEST_UID === null ? [] : [`--reuid=${TEST_UID}`, `--regid=${TEST_UID}`, "--clear-groups", "--bounding-set=-all"];
  const script = `exec setpriv ${identity.join(" ")} --no-new-privs --inh-caps=-all -- python3 -c "$1" 3<>/proc/${process.pid}/fd/${descriptor}`;
  const { stdout } = await promisify(execFile)("sh", ["-c", script, "sh", TRIES], { env: { PATH: TOOL_PATH } });
  return JSON.parse(stdout);
};

describe("a QEMU that cannot be started", { timeout: BOOT_MS * 2 }, () => {
  test("a root's daemon refuses to run it as root", { skip: TEST_UID === null && "only root can try" }, async () => {
    await using stage = await openQemuStage();
    const spec = await stage.spec("one");
    for (const uid of [null, 0]) {
      const refused = stage.driver.boot({ ...spec, uid }, { signal: AbortSignal.timeout(BOOT_MS) });
      await assert.rejects(refused, (error: unknown) => isVmmFailed(error) && /root/.test(String(error)));
      assert.deepEqual(await stage.remains(spec.directory), []);
    }
  });

  test("I19 a disk that is not there is named, and nothing is left", async () => {
    await using stage = await openQemuStage();
    const spec = await stage.spec("one");
    const disks = [{ slot: "root" as const, path: join(stage.home, "missing.ext4"), readOnly: true }];
    const refused = stage.driver.boot({ ...spec, disks }, { signal: AbortSignal.timeout(BOOT_MS) });
    await assert.rejects(refused, (error: unknown) => isVmmFailed(error) && /missing\.ext4/.test(String(error)));
    assert.deepEqual(await stage.remains(spec.directory), []);
  });

  test("I20 what QEMU itself says is in the error, and a writable disk has one VM", async () => {
    await using stage = await openQemuStage();
    const signal = AbortSignal.timeout(BOOT_MS);
    const [one, two] = [await stage.spec("one"), await stage.spec("two")];
    const disks = [{ slot: "writable" as const, path: await stage.emptyDisk("shared.ext4"), readOnly: false }];
    const vmm = await stage.driver.boot({ ...one, disks }, { signal });
    await assert.rejects(
      stage.driver.boot({ ...two, disks }, { signal }),
      (error: unknown) => isVmmFailed(error) && /exit code 1.*Failed to get "write" lock/s.test(String(error)),
    );
    assert.deepEqual(await stage.remains(two.directory), []);
    await vmm.kill();
  });
});
