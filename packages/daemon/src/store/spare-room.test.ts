import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Database, declareWrite } from "./database.ts";

const CHANGE = declareWrite("test.spare");
const CHANGES = 1_000;
const skip = process.getuid?.() === 0 ? false : "mounting a small disk takes root";

const onSmallDisk = (use: (directory: string) => void): void => {
  const directory = mkdtempSync(join(tmpdir(), "kiln-spare-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m", "tmpfs", directory]);
    try {
      use(directory);
    } finally {
      execFileSync("umount", [directory]);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
};

const fill = (directory: string): void => {
  assert.throws(() => writeFileSync(join(directory, "filler"), Buffer.alloc(32 << 20)), { code: "ENOSPC" });
};

const change = (database: Database, number: number): void => {
  database.write(CHANGE, (run) => {
    run("INSERT OR REPLACE INTO requests (key, fingerprint, begun_at) VALUES (?, ?, ?)", `key ${number % 100}`, "f".repeat(200), number);
  });
};

test("what has to be written down while the disk is full finds room that was taken ahead", { skip }, () => {
  onSmallDisk((directory) => {
    for (let start = 0; start < 2; start += 1) {
      using database = new Database(join(directory, "kiln.db"));
      database.takeSpareRoom();
      fill(directory);
      for (let number = 0; number < CHANGES; number += 1) change(database, number);
      assert.equal(database.get("SELECT count(*) AS count FROM requests")?.["count"], 100);
      rmSync(join(directory, "filler"));
    }
    assert.ok(statSync(join(directory, "kiln.db")).size < 5 << 20);
  });
});

test("a disk without room to take ahead is no reason not to begin", { skip }, () => {
  onSmallDisk((directory) => {
    {
      using first = new Database(join(directory, "kiln.db"));
      change(first, 0);
    }
    writeFileSync(join(directory, "most"), Buffer.alloc((16 << 20) - statSync(join(directory, "kiln.db")).size - (256 << 10)));
    using database = new Database(join(directory, "kiln.db"));
    database.takeSpareRoom();
    change(database, 1);
    assert.equal(database.get("SELECT count(*) AS count FROM sqlite_schema WHERE name = 'spare'")?.["count"], 0);
  });
});
