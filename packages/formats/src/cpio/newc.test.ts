import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { suite, test } from "node:test";
import { CpioError, type CpioEntry, writeNewc } from "./newc.ts";

const list = (archive: Uint8Array): string[] =>
  execFileSync("cpio", ["-itvn", "--quiet"], { input: archive, encoding: "utf8", stdio: ["pipe", "pipe", "ignore"] })
    .trim()
    .split("\n");

const hasCpio = (() => {
  try {
    list(writeNewc([]));
    return true;
  } catch {
    return false;
  }
})();

const ENTRIES: readonly CpioEntry[] = [
  { type: "directory", path: "dev", mode: 0o755 },
  { type: "char", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
  { type: "file", path: "init", mode: 0o4755, bytes: Buffer.from("#!init") },
  { type: "symlink", path: "bin", mode: 0o777, target: "usr/bin" },
];

suite("initramfs archives", () => {
  test("cpio reads what is written", { skip: hasCpio ? false : "cpio is not installed" }, () => {
    const lines = list(writeNewc(ENTRIES)).map((line) => line.replace(/\s+/g, " "));
    assert.match(lines[0] ?? "", /^drwxr-xr-x 2 0 0 0 .* dev$/);
    assert.match(lines[1] ?? "", /^crw------- 1 0 0 5, ?1 .* dev\/console$/);
    assert.match(lines[2] ?? "", /^-rwsr-xr-x 1 0 0 6 .* init$/);
    assert.match(lines[3] ?? "", /^lrwxrwxrwx 1 0 0 7 .* bin -> usr\/bin$/);
    assert.equal(lines.length, 4);
    const content = execFileSync("cpio", ["-i", "--to-stdout", "--quiet", "init"], { input: writeNewc(ENTRIES) });
    assert.equal(content.toString(), "#!init");
  });

  test("I9 the same entries give the same bytes, aligned so that archives can follow each other", () => {
    const archive = writeNewc(ENTRIES);
    assert.deepEqual(archive, writeNewc(ENTRIES));
    assert.equal(archive.length % 4, 0);
  });

  test("paths that the kernel would not unpack below its root are refused", () => {
    for (const path of ["", "/init", "a\0b"]) assert.throws(() => writeNewc([{ type: "directory", path, mode: 0o755 }]), CpioError);
  });
});
