import assert from "node:assert/strict";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isVmmFailed } from "../driver.contract.ts";
import { BOOT_MS, openQemuStage, TEST_UID } from "./stage.fixture.ts";

/** The fields of /proc/PID/status. */
const readStatus = async (pid: number): Promise<ReadonlyMap<string, string>> => {
  const lines = (await readFile(`/proc/${pid}/status`, "utf8")).split("\n");
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()] as const));
};

const readOpenFiles = async (pid: number): Promise<readonly string[]> =>
  Promise.all((await readdir(`/proc/${pid}/fd`)).map((name) => readlink(`/proc/${pid}/fd/${name}`)));

describe("a QEMU is nobody", { timeout: BOOT_MS * 2 }, () => {
  test("10.2 it has another uid than root, no capability, no way to get one, and a seccomp filter", async () => {
    await using stage = await openQemuStage();
    const signal = AbortSignal.timeout(BOOT_MS);
    const vmm = await stage.driver.boot(await stage.spec("one"), { signal });
    const status = await readStatus(vmm.ref.identity.pid);
    const uid = String(TEST_UID ?? process.getuid?.());
    assert.notEqual(uid, "0");
    assert.deepEqual(status.get("Uid")?.split("\t"), [uid, uid, uid, uid]);
    if (TEST_UID !== null) assert.equal(status.get("Groups"), "");
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) assert.equal(status.get(set), "0000000000000000", set);
    if (TEST_UID !== null) assert.equal(status.get("CapBnd"), "0000000000000000");
    assert.equal(status.get("NoNewPrivs"), "1");
    assert.equal(status.get("Seccomp"), "2");
    const limits = await readFile(`/proc/${vmm.ref.identity.pid}/limits`, "utf8");
    assert.match(limits, /Max core file size +0 +0/);
    assert.equal(await readlink(`/proc/${vmm.ref.identity.pid}/cwd`), "/");
    await vmm.kill();
  });

  test("10.2 it holds its files as open descriptors and nothing that was not meant for it", async () => {
    await using stage = await openQemuStage();
    const signal = AbortSignal.timeout(BOOT_MS);
    const spec = await stage.spec("one");
    const writable = await stage.emptyDisk("writable.ext4");
    const disks = [...spec.disks, { slot: "writable" as const, path: writable, readOnly: false }];
    const vmm = await stage.driver.boot({ ...spec, disks }, { signal });
    const files = new Set((await readOpenFiles(vmm.ref.identity.pid)).filter((name) => !/^(socket|pipe|anon_inode):/.test(name)));
    const { vmlinux, initramfs, modulesImage } = stage.kernel;
    assert.deepEqual([...files].sort(), ["/dev/null", vmlinux, initramfs, modulesImage, writable].sort());
    const environment = (await readFile(`/proc/${vmm.ref.identity.pid}/environ`, "utf8")).split("\0").map((line) => line.split("=")[0]);
    assert.deepEqual(new Set(environment), new Set(["KILN_DIR", "KILN_DRIVER", "KILN_VM", "LC_ALL", "PATH", ""]));
    await vmm.kill();
  });

  test("I40 its sockets are open to their owner only", async () => {
    await using stage = await openQemuStage();
    const spec = await stage.spec("one");
    const vmm = await stage.driver.boot(spec, { signal: AbortSignal.timeout(BOOT_MS) });
    assert.deepEqual((await readdir(spec.directory)).sort(), ["agent.sock", "qmp.sock"]);
    for (const name of ["agent.sock", "qmp.sock"]) assert.equal((await stat(join(spec.directory, name))).mode & 0o777, 0o600);
    await vmm.kill();
  });

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
