import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, statSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IDENTITY, assertClean, skipMount, withFileSink, withMount, withScratch } from "../image.fixture.ts";
import { writeEmptyExt4 } from "../index.ts";

const GIB = 2 ** 30;

/** Returns how many bytes were written. */
const writeDisk = (path: string, sizeBytes: number, journal = true): number =>
  withFileSink(path, (sink, resize) => {
    let written = 0;
    const counting = {
      write: (offset: number, bytes: Uint8Array): void => {
        written += bytes.length;
        assert.ok(offset + bytes.length <= sizeBytes);
        sink.write(offset, bytes);
      },
    };
    writeEmptyExt4({ sizeBytes, journal, identity: { ...IDENTITY, label: "writable" } }, counting);
    resize(sizeBytes);
    return written;
  });

const MIB = 2 ** 20;
const sizes = [
  8 * MIB,
  20_000_000,
  128 * MIB,
  128 * MIB + 4096,
  128 * MIB + 4096 * 300,
  600 * MIB,
  2 * GIB,
  8 * GIB,
  8 * GIB + 128 * MIB,
  80 * GIB,
  1024 * GIB,
];

for (const sizeBytes of sizes) {
  test(`an empty disk of ${sizeBytes} bytes is clean and costs next to nothing`, () => {
    withScratch((scratch) => {
      const disk = join(scratch, "disk");
      const written = writeDisk(disk, sizeBytes);
      assert.equal(statSync(disk).size, sizeBytes);
      assert.ok(written < 200_000 + sizeBytes / 50_000, `${written} bytes`);
      assertClean(disk);
    });
  });
}

test("directories that are asked for are there, empty, with their modes, and can be written to", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const disk = join(scratch, "disk");
    const directories = [
      { name: "upper", mode: 0o755 },
      { name: "work", mode: 0o700 },
    ];
    withFileSink(disk, (sink, resize) => {
      writeEmptyExt4({ sizeBytes: 64 * MIB, journal: true, identity: IDENTITY, directories }, sink);
      resize(64 * MIB);
    });
    assertClean(disk);
    withMount(disk, "rw", (mountPoint) => {
      assert.deepEqual(readdirSync(mountPoint).sort(), ["lost+found", "upper", "work"]);
      for (const { name, mode } of directories) {
        const { mode: found, uid, gid, nlink } = statSync(join(mountPoint, name));
        assert.deepEqual({ found: found & 0o7777, uid, gid, nlink }, { found: mode, uid: 0, gid: 0, nlink: 2 });
        assert.deepEqual(readdirSync(join(mountPoint, name)), []);
        writeFileSync(join(mountPoint, name, "file"), "content");
      }
      assert.equal(statSync(mountPoint).nlink, 5);
    });
    assertClean(disk);
  });
});

test("the same disk has the same bytes, and its label and UUID", () => {
  withScratch((scratch) => {
    const [a, b] = [join(scratch, "a"), join(scratch, "b")];
    writeDisk(a, 64 * MIB);
    writeDisk(b, 64 * MIB);
    assert.ok(readFileSync(a).equals(readFileSync(b)));
    const summary = execFileSync("dumpe2fs", ["-h", a], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    assert.match(summary, /volume name: +writable/);
    assert.match(summary, /UUID: +42424242-4242-4242-4242-424242424242/);
    assert.match(summary, /journal size: +4096k/i);
  });
});

test("a disk too small or too large is refused", () => {
  const sink = { write: () => undefined };
  assert.throws(() => writeEmptyExt4({ sizeBytes: 8 * MIB - 1, journal: true, identity: IDENTITY }, sink), {
    name: "Ext4Error",
    code: "TOO_SMALL",
  });
  assert.throws(() => writeEmptyExt4({ sizeBytes: 2 ** 44 + 4096, journal: true, identity: IDENTITY }, sink), {
    name: "Ext4Error",
    code: "TOO_LARGE",
  });
});

test("the kernel writes to it, fills a group, and leaves it clean", { skip: skipMount }, () => {
  withScratch((scratch) => {
    const disk = join(scratch, "disk");
    writeDisk(disk, 300 * MIB);
    const content = randomBytes(3 * MIB);
    withMount(disk, "rw", (mounted) => {
      assert.deepEqual(readdirSync(mounted), ["lost+found"]);
      const free = statfsSync(mounted);
      assert.ok(free.bavail * free.bsize > 245 * MIB);
      for (let index = 0; index < 60; index += 1) writeFileSync(join(mounted, `file${index}`), content);
      for (let index = 0; index < 3000; index += 1) writeFileSync(join(mounted, `small${index}`), String(index));
    });
    assertClean(disk);
    withMount(disk, "ro", (mounted) => assert.ok(readFileSync(join(mounted, "file59")).equals(content)));
  });
});

for (const sizeBytes of [64 * MIB, 8 * GIB]) {
  test(
    `what was synced to a disk of ${sizeBytes} bytes that loses its machine is there after the journal is replayed`,
    { skip: skipMount },
    () => {
      withScratch((scratch) => {
        const [disk, crashed] = [join(scratch, "disk"), join(scratch, "crashed")];
        writeDisk(disk, sizeBytes);
        withMount(disk, "rw", (mounted) => {
          for (let index = 0; index < 50; index += 1) {
            const fd = openSync(join(mounted, `f${index}`), "w");
            writeSync(fd, `content ${index}`);
            fsyncSync(fd);
            closeSync(fd);
          }
          execFileSync("cp", ["--sparse=always", disk, crashed]);
        });
        const state = execFileSync("dumpe2fs", ["-h", crashed], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
        assert.match(state, /needs_recovery/, "the copy was taken while it was mounted");
        withMount(crashed, "rw", (mounted) => {
          assert.deepEqual(
            Array.from({ length: 50 }, (_, index) => readFileSync(join(mounted, `f${index}`), "utf8")),
            Array.from({ length: 50 }, (_, index) => `content ${index}`),
          );
          writeFileSync(join(mounted, "after"), "x");
        });
        assertClean(crashed);
      });
    },
  );
}
