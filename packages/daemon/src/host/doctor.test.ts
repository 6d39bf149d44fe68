import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkHome } from "./checks/home.ts";
import { describeStranger, judgeMode, type KvmDevice } from "./checks/kvm-device.ts";
import { HOST_LIMITS } from "./checks/limits.ts";
import { judgeMemory, judgeSpace } from "./checks/machine.ts";
import { type DriverFinding, judgeAccel, judgeQemu } from "./checks/vmm.ts";
import { type Examination, examineHost } from "./doctor.ts";

const uid = process.getuid?.() ?? -1;
const A_BYTE = 1;

test("space and memory: enough is passed, little is a warning, too little a failure", () => {
  const { comfortableDiskBytes, leastDiskBytes, comfortableMemoryBytes, leastMemoryBytes } = HOST_LIMITS;
  const space = [comfortableDiskBytes, comfortableDiskBytes - A_BYTE, leastDiskBytes - A_BYTE].map(
    (bytes) => judgeSpace(bytes, "/h").status,
  );
  assert.deepEqual(space, ["pass", "warn", "fail"]);
  const memory = [comfortableMemoryBytes, comfortableMemoryBytes - A_BYTE, leastMemoryBytes - A_BYTE].map(
    (freeBytes) => judgeMemory({ totalBytes: 2 ** 34, freeBytes }).status,
  );
  assert.deepEqual(memory, ["pass", "warn", "fail"]);
});

test("QEMU 7.2 and newer will do", () => {
  const host = { home: "/h", uid: 1000, apt: "ready" } as const;
  const judge = (version: string | null) => judgeQemu({ version, reason: "it is not installed" }, host);
  for (const version of ["7.2", "7.2.22", "7.10.0", "8.0.0", "10.1.0"]) assert.equal(judge(version), null, version);
  for (const version of ["7.1.99", "6.2.0", "2.11"]) assert.deepEqual([judge(version)?.status, judge(version)?.found], ["fail", version]);
  assert.deepEqual([judge(null)?.found, judge(null)?.fix?.slice(0, 5)], ["it is not installed", "sudo "]);
});

describe("the accelerator", () => {
  const usable: KvmDevice = { usable: true };
  const closed: KvmDevice = { usable: false, found: "it is closed", fix: "open it" };
  const tcg: DriverFinding = { name: "qemu", version: "7.2", accel: "tcg", reason: "said the driver\nat length", tried: true };
  const rows: readonly [string, Partial<DriverFinding>, KvmDevice | null, string, string | RegExp | null][] = [
    ["kvm that booted a guest", { accel: "kvm" }, usable, "pass", null],
    [
      "kvm that a user asks for and the device does not give",
      { accel: "kvm", tried: false },
      closed,
      "fail",
      "unset KILN_ACCEL, or open it",
    ],
    ["no device", {}, closed, "warn", "open it"],
    ["a device that opens and guests that never run", {}, usable, "warn", /nested virtualisation.*goes on without KVM/],
    ["a device that opens before there is a kernel", { tried: false }, usable, "pass", null],
    ["a device that opens before there is QEMU", { version: null, accel: null, tried: false }, usable, "pass", null],
    ["a driver that cannot say", { accel: null }, usable, "fail", /mend what else/],
    ["a driver without KVM", { name: "fake", accel: "none" }, null, "pass", null],
  ];
  for (const [what, finding, device, status, fix] of rows) {
    test(`${what}: ${status}`, () => {
      const check = judgeAccel({ ...tcg, ...finding }, device);
      assert.equal(check.status, status);
      assert.ok(check.found !== null && !check.found.includes("\n"), "one line");
      if (fix instanceof RegExp) assert.match(check.fix ?? "", fix);
      else assert.equal(check.fix, fix);
    });
  }
  test("a device is KVM's by its kind and number", () => {
    const device = (rdev: number) => ({ rdev, isCharacterDevice: () => true, isDirectory: () => false });
    assert.equal(describeStranger(device((10 << 8) | 232)), null);
    assert.match(describeStranger(device((1 << 8) | 3)) ?? "", /1:3/);
    assert.match(describeStranger({ ...device(0), isCharacterDevice: () => false }) ?? "", /a file/);
  });
  test("a daemon of root needs a group or others that may open it, a user has opened it already", () => {
    const judge = (mode: number, gid: number, who: number) => judgeMode({ mode: 0o20000 | mode, gid }, who).usable;
    const table = [
      judge(0o600, 0, 0),
      judge(0o660, 0, 0),
      judge(0o640, 100, 0),
      judge(0o660, 100, 0),
      judge(0o666, 0, 0),
      judge(0o600, 0, 7),
    ];
    assert.deepEqual(table, [false, false, false, true, true, true]);
  });
});

describe("the home", () => {
  const withDirectory = async (run: (directory: string) => Promise<void>): Promise<void> => {
    const directory = await mkdtemp(join(tmpdir(), "kiln-home-"));
    try {
      await run(directory);
    } finally {
      await rm(directory, { recursive: true });
    }
  };
  const look = async (home: string, who = uid) => {
    const { status, found } = await checkHome({ home, uid: who, apt: "ready" });
    return `${status}: ${found}`;
  };
  test("that is missing, there, open, a file, a link, below a file, or another user's", () =>
    withDirectory(async (directory) => {
      const at = (name: string) => join(directory, name);
      await mkdir(at("own"), { mode: 0o700 });
      await mkdir(at("open"));
      await chmod(at("open"), 0o755);
      await writeFile(at("file"), "");
      await symlink("own", at("link"));
      assert.match(await look(at("not/yet")), /^pass: .*which the first use makes/);
      assert.equal(await look(at("own")), `pass: ${at("own")}`);
      assert.match(await look(at("open")), /^warn: .*mode 0755/);
      assert.match(await look(at("file")), /^fail: .*is a file/);
      assert.match(await look(at("link")), /^fail: .*is a link/);
      assert.match(await look(at("file/below")), /^fail: .*cannot be made: .*\/file is not a directory/);
      assert.match(await look(at("own"), uid + 1), /^fail: .*belongs to the user/);
      await assert.rejects(stat(at("not")), { code: "ENOENT" });
    }));
});

test("a check that goes wrong hides none of the others", async () => {
  const parts: Examination = {
    ...{ home: tmpdir(), agentPath: "/nonexistent", uid, uidBase: null },
    probe: () => Promise.reject(new Error("the driver fell over\nand more")),
    readRegistries: () => Promise.reject(new Error("line 3 is nonsense")),
  };
  const { ok, checks } = await examineHost(parts, { signal: AbortSignal.timeout(60_000) });
  const found = new Map(checks.map((check) => [check.name, check]));
  assert.equal(ok, false);
  assert.deepEqual([found.get("driver")?.found, found.get("driver")?.status], ["it could not be looked at: the driver fell over", "fail"]);
  assert.equal(found.get("registries.toml")?.found, "line 3 is nonsense");
  assert.ok(["node", "apt", "space", "cgroups"].every((name) => found.has(name)));
  await assert.rejects(examineHost(parts, { signal: AbortSignal.abort(new Error("gone")) }), /gone/);
});
