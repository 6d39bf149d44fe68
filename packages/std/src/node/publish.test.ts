import assert from "node:assert/strict";
import { chmod, link, mkdir, readFile, readdir, rename, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileFingerprint, publishBytes, publishDirectory, publishFile, sameFingerprint, TargetExistsError } from "./index.ts";
import { barrier, scratchDirectory } from "./scratch.fixture.ts";

describe("publishing a file", () => {
  it("gives the name its bytes, its exact mode and its fingerprint, and leaves no staging", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const done = await publishBytes({ target, stagingDir: scratch.staging, bytes: "hello", mode: 0o464, ifExists: "fail" });
    assert.equal(await readFile(target, "utf8"), "hello");
    const stats = await stat(target);
    assert.deepEqual([stats.mode & 0o7777, stats.nlink, done.size, done.published], [0o464, 1, 5, true]);
    const now = await fileFingerprint(target);
    assert.ok(now !== null && sameFingerprint(now, done));
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("shows nobody else its bytes before it has its mode", async () => {
    await using scratch = await scratchDirectory();
    const base = { target: join(scratch.path, "final"), stagingDir: scratch.staging, ifExists: "keep" } as const;
    const modes: number[] = [];
    const write = async (_file: unknown, path: string) => void modes.push((await stat(path)).mode & 0o7777);
    await publishFile({ ...base, mode: 0o644, write });
    assert.deepEqual(modes, [0o600]);
  });

  it("I1 of many who keep at once one publishes, and all get the same whole file", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const everyoneStaged = barrier(16);
    const publish = () =>
      publishFile({
        target,
        stagingDir: scratch.staging,
        write: (file) => file.writeFile("the same"),
        verify: everyoneStaged,
        ifExists: "keep",
      });
    const all = await Promise.all(Array.from({ length: 16 }, publish));
    assert.equal(all.filter(({ published }) => published).length, 1);
    assert.equal(new Set(all.map(({ ino }) => ino)).size, 1);
    assert.equal(await readFile(target, "utf8"), "the same");
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("I3 of many with different content under one name one wins, the others get EEXIST, and its bytes are intact", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const everyoneStaged = barrier(8);
    const publish = (n: number) =>
      publishFile({
        target,
        stagingDir: scratch.staging,
        write: (file) => file.writeFile(`content ${n}`),
        verify: everyoneStaged,
        ifExists: "fail",
      });
    const all = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => publish(n)));
    const winner = all.findIndex(({ status }) => status === "fulfilled");
    for (const [n, one] of all.entries()) {
      if (n === winner) continue;
      assert.ok(one.status === "rejected" && one.reason instanceof TargetExistsError && one.reason.code === "EEXIST");
    }
    assert.equal(await readFile(target, "utf8"), `content ${winner}`);
  });

  it("I4 whoever reads a file that is replaced over and over sees one version whole", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const version = (n: number) => String(n % 10).repeat(100_000);
    const publish = (n: number) => publishBytes({ target, stagingDir: scratch.staging, bytes: version(n), ifExists: "replace" });
    await publish(0);
    let replacing = true;
    const writers = Promise.all(
      [1, 2].map(async (w) => {
        for (let n = 0; n < 20; n += 1) await publish(n * 2 + w);
      }),
    ).finally(() => (replacing = false));
    let reads = 0;
    for (; replacing || reads === 0; reads += 1) {
      const seen = await readFile(target, "utf8");
      assert.equal(seen, version(Number(seen[0])));
    }
    await writers;
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("I6 a failing publication takes its own staging away and no other's", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const bothStaged = barrier(2);
    const publish = (verify: () => Promise<void>) =>
      publishFile({ target, stagingDir: scratch.staging, write: (file) => file.writeFile("x"), verify, ifExists: "keep" });
    let others = -1;
    const failing = publish(async () => {
      await bothStaged();
      throw new Error("wrong digest");
    });
    const sound = publish(async () => {
      await bothStaged();
      await failing.catch(() => undefined);
      others = (await readdir(scratch.staging)).length;
    });
    await assert.rejects(failing, /wrong digest/);
    assert.equal((await sound).published, true);
    assert.equal(others, 1);
  });

  it("I15 whatever fails or aborts, the name stays absent and no staging is left", async () => {
    await using scratch = await scratchDirectory();
    const base = { target: join(scratch.path, "final"), stagingDir: scratch.staging, ifExists: "keep" } as const;
    const stopped = new AbortController();
    const broken = async () => {
      throw new Error("broken");
    };
    const swap = async (_file: unknown, path: string) => {
      await writeFile(`${path}.other`, "other");
      await rename(`${path}.other`, path);
    };
    await assert.rejects(publishFile({ ...base, write: broken }), /broken/);
    await assert.rejects(publishFile({ ...base, write: async () => undefined, verify: broken }), /broken/);
    await assert.rejects(publishFile({ ...base, write: swap }), /was replaced/);
    const abort = async () => stopped.abort(new Error("left"));
    await assert.rejects(publishFile({ ...base, write: abort, signal: stopped.signal }), /left/);
    const nowhere = join(scratch.path, "missing", "final");
    await assert.rejects(publishBytes({ ...base, target: nowhere, bytes: "x" }), { code: "ENOENT" });
    assert.deepEqual(await readdir(scratch.path), ["staging"]);
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("a link or directory that has the name is not taken for a published file", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    await symlink("nowhere", target);
    const publish = () => publishBytes({ target, stagingDir: scratch.staging, bytes: "x", ifExists: "keep" });
    await assert.rejects(publish(), { code: "EEXIST" });
    assert.deepEqual(await readdir(scratch.staging), []);
  });
});

describe("a fingerprint", () => {
  it("I7 differs after a write in place, a truncation, a replacement, a link and a change of mode", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "final");
    const publish = () => publishBytes({ target, stagingDir: scratch.staging, bytes: "hello", ifExists: "replace" });
    const changes = [
      () => writeFile(target, "jello"),
      () => writeFile(target, ""),
      async () => void (await publish()),
      () => link(target, `${target}.link`),
      () => chmod(target, 0o640),
    ];
    for (const change of changes) {
      const before = await publish();
      assert.ok(sameFingerprint(before, await requireFingerprint(target)));
      await new Promise((resolve) => setTimeout(resolve, 12)); // inode times advance with the kernel's tick, up to 10 ms
      await change();
      assert.ok(!sameFingerprint(before, await requireFingerprint(target)), change.toString());
    }
  });

  it("is null where no regular file is", async () => {
    await using scratch = await scratchDirectory();
    assert.equal(await fileFingerprint(join(scratch.path, "missing")), null);
    assert.equal(await fileFingerprint(scratch.path), null);
  });
});

async function requireFingerprint(path: string) {
  const found = await fileFingerprint(path);
  assert.ok(found !== null);
  return found;
}

describe("publishing a directory", () => {
  const fill = (text: string) => async (dir: string) => {
    await mkdir(join(dir, "sub"));
    await writeFile(join(dir, "sub", "a"), text);
    await symlink("/nowhere", join(dir, "dangling"));
  };

  it("gives the name a whole tree and leaves no staging", async () => {
    await using scratch = await scratchDirectory();
    const target = join(scratch.path, "set");
    const done = await publishDirectory({ target, stagingDir: scratch.staging, write: fill("x"), ifExists: "fail" });
    assert.deepEqual([done.published, await readFile(join(target, "sub", "a"), "utf8")], [true, "x"]);
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("I1 I3 of many at once one wins: who keeps succeeds, who fails gets EEXIST", async () => {
    for (const ifExists of ["keep", "fail"] as const) {
      await using scratch = await scratchDirectory();
      const target = join(scratch.path, "set");
      const everyoneWrote = barrier(8);
      const publish = (n: number) =>
        publishDirectory({
          target,
          stagingDir: scratch.staging,
          write: async (dir) => {
            await fill(`content ${n}`)(dir);
            await everyoneWrote();
          },
          ifExists,
        });
      const all = await Promise.allSettled(Array.from({ length: 8 }, (_, n) => publish(n)));
      const winner = all.findIndex((one) => one.status === "fulfilled" && one.value.published);
      assert.equal(await readFile(join(target, "sub", "a"), "utf8"), `content ${winner}`);
      for (const [n, one] of all.entries()) {
        if (n === winner) continue;
        if (ifExists === "keep") assert.ok(one.status === "fulfilled" && !one.value.published);
        else assert.ok(one.status === "rejected" && one.reason instanceof TargetExistsError);
      }
      assert.deepEqual(await readdir(scratch.staging), []);
    }
  });

  it("I43 what is made in stages has its name after the last: one that stops between two leaves nothing, and who races it is whole", async () => {
    await using scratch = await scratchDirectory();
    const base = { target: join(scratch.path, "set"), stagingDir: scratch.staging, ifExists: "keep" } as const;
    const [between, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const stopped = publishDirectory({
      ...base,
      write: async (dir) => {
        await writeFile(join(dir, "first stage"), "x");
        between.resolve();
        await goOn.promise;
        throw new Error("stopped between two stages");
      },
    });
    await between.promise;
    await assert.rejects(readdir(base.target), { code: "ENOENT" });
    const inStages = async (dir: string): Promise<void> => {
      for (const stage of ["first stage", "last stage"]) await writeFile(join(dir, stage), "x");
    };
    assert.deepEqual(await publishDirectory({ ...base, write: inStages }), { published: true });
    goOn.resolve();
    await assert.rejects(stopped, /between two stages/);
    assert.deepEqual((await readdir(base.target)).toSorted(), ["first stage", "last stage"]);
    assert.deepEqual(await readdir(scratch.staging), []);
  });

  it("I15 an empty or failed one is not published, and a file or empty directory of the name is not replaced", async () => {
    await using scratch = await scratchDirectory();
    const base = { target: join(scratch.path, "set"), stagingDir: scratch.staging, ifExists: "keep" } as const;
    await assert.rejects(publishDirectory({ ...base, write: async () => undefined }), /is empty/);
    const breakOff = async (dir: string) => {
      await writeFile(join(dir, "half"), "x");
      throw new Error("broken");
    };
    await assert.rejects(publishDirectory({ ...base, write: breakOff }), /broken/);
    assert.deepEqual(await readdir(scratch.path), ["staging"]);
    await writeFile(base.target, "a file");
    await assert.rejects(publishDirectory({ ...base, write: fill("x") }), { code: "EEXIST" });
    const empty = join(scratch.path, "empty");
    await mkdir(empty);
    await assert.rejects(publishDirectory({ ...base, target: empty, write: fill("x"), ifExists: "fail" }), { code: "EEXIST" });
    assert.deepEqual(await readdir(scratch.staging), []);
  });
});
