import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, copyFile, link, mkdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { listPoints, planCells, type Planned, type PlannedCell, planOperations, runCells } from "../crash/matrix.ts";
import { OPERATIONS, UNMET } from "../crash/operations.ts";
import { PAGE_HEAD } from "../crash/page.ts";
import { readRecords } from "../crash/records.ts";
import { BASE, copyHome, createStage, type Stage } from "../crash/stage.ts";
import { complaintsAbout } from "../crash/world.ts";
import type { TestHome } from "./home.ts";

/** Of the failpoints, one in so many is tried here, at one of the operations that meet it; all of them by `npm run crash-matrix`. */
const ONE_IN = 3;

/** For each chosen failpoint another operation than for the one before. */
const choose = (planned: readonly Planned[]): readonly PlannedCell[] => {
  const cells = planCells(planned);
  const points = [...new Set(cells.map(({ cell }) => cell.point))].toSorted();
  return points.flatMap((point, index) => {
    const here = cells.filter(({ cell }) => cell.point === point);
    return index % ONE_IN === 0 ? (here[index % here.length] ?? []) : [];
  });
};

const cellsOf = (line: string): string[] =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());

describe("the crash matrix", () => {
  let stage: Stage;
  before(async () => {
    stage = await createStage();
  });
  after(() => stage[Symbol.asyncDispose]());

  test(`I35 kill -9 of the daemon, and a failure, at every ${ONE_IN}rd failpoint leaves nothing lost, doubled or behind`, async ({
    signal,
  }) => {
    const operations = OPERATIONS.filter(({ isSlow }) => isSlow !== true);
    const cells = choose(await planOperations(stage, { operations, signal }));
    assert.ok(cells.length > 25, `${cells.length} cells`);
    const results = await runCells(stage, cells, { onResult: () => undefined, signal });
    const bad = results.filter(({ complaints }) => complaints.length > 0);
    assert.deepEqual(
      bad.map(({ cell, outcome, complaints }) => [cell.operation.name, cell.action, `${cell.point}:${cell.nth}`, outcome, ...complaints]),
      [],
    );
  });

  test("the page has a row for every failpoint that the daemon lists, with a kill in it, and a column for every operation", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/crash-matrix.md"), "utf8");
    const rows = page.split("\n").filter((line) => line.startsWith("|"));
    const advice = "`npm run crash-matrix` writes the page again";
    assert.deepEqual(cellsOf(rows[0] ?? ""), PAGE_HEAD, advice);
    const named = new Map(rows.slice(2).map((row) => [(cellsOf(row)[0] ?? "").replaceAll("`", ""), cellsOf(row).slice(1)]));
    assert.deepEqual(new Set(named.keys()), new Set(await listPoints(stage)), advice);
    for (const [point, cells] of named) assert.equal(cells.join("") === "", Object.hasOwn(UNMET, point), `${point}: ${advice}`);
    assert.ok(!page.includes("?"), "every outcome has a letter");
  });

  describe("sees", () => {
    let home: TestHome;
    before(async () => {
      home = await copyHome(stage, stage.template);
      await home.ok("create", "--name", "web", BASE, "--", "true");
    });
    after(() => home.ok("daemon", "stop"));

    const expectSeen = async (expected: RegExp, breakIt: (undo: AsyncDisposableStack) => Promise<void>): Promise<void> => {
      const look = () => complaintsAbout(home.path, { action: "kill" });
      assert.deepEqual(await look(), []);
      {
        await using undo = new AsyncDisposableStack();
        await breakIt(undo);
        const complaints = await look();
        assert.ok(
          complaints.some((complaint) => expected.test(complaint)),
          `${complaints.join("; ")} has no ${expected.source}`,
        );
      }
      assert.deepEqual(await look(), []);
    };

    const inDatabase = (undo: AsyncDisposableStack, change: string, back: string): void => {
      const run = (sql: string): void => {
        const database = new DatabaseSync(join(home.path, "kiln.db"));
        database.exec(sql);
        database.close();
      };
      run(change);
      undo.defer(() => run(back));
    };

    const withFile = async (undo: AsyncDisposableStack, path: string, bytes = ""): Promise<void> => {
      await writeFile(path, bytes);
      undo.defer(() => rm(path));
    };

    /** Of the image that the home has. */
    const blobOf = (): string => {
      const digest = readRecords(home.path).images[0]?.image.layers[0]?.digest ?? "";
      return join(home.path, "content/sha256", digest.slice("sha256:".length));
    };
    const rootfsOf = (): string => join(home.path, "rootfs", `${readRecords(home.path).rootfs[0]?.key}.ext4`);

    test("a file in staging", () => expectSeen(/^staging: /, (undo) => withFile(undo, join(home.path, "staging/left"))));

    test("a file that no record owns", () => expectSeen(/^orphans: /, (undo) => withFile(undo, join(home.path, "rootfs/left.ext4"))));

    test("a difference between df and du", () =>
      expectSeen(/^df says/, async (undo) => {
        await withFile(undo, join(home.path, "cache/one"), "x".repeat(2 ** 20));
        await link(join(home.path, "cache/one"), join(home.path, "cache/two")); // du counts it once
        undo.defer(() => rm(join(home.path, "cache/two")));
      }));

    test("a process", () =>
      expectSeen(/^processes: /, async (undo) => {
        const child: ChildProcess = spawn("sleep", ["60"], { env: { PATH: process.env["PATH"], LEFT: home.path } });
        await once(child, "spawn");
        undo.defer(async () => {
          child.kill("SIGKILL");
          await once(child, "exit");
        });
      }));

    test("a socket", () =>
      expectSeen(/^sockets: /, async (undo) => {
        const server = createServer().listen(join(home.path, "other.sock"));
        await once(server, "listening");
        undo.defer(async () => {
          server.close();
          await once(server, "close");
        });
      }));

    test("a mount", { skip: process.getuid?.() === 0 ? false : "needs root" }, () =>
      expectSeen(/^mounts: /, async (undo) => {
        const place = join(home.path, "cache/mount");
        await mkdir(place);
        undo.defer(() => rm(place, { recursive: true }));
        execFileSync("mount", ["-t", "tmpfs", "none", place]);
        undo.defer(() => void execFileSync("umount", [place]));
      }),
    );

    test("a blob that is missing", () =>
      expectSeen(/missing or damaged/, async (undo) => {
        const blob = blobOf();
        await rename(blob, `${blob}.away`);
        undo.defer(() => rename(`${blob}.away`, blob));
      }));

    test("a rootfs with other bytes, or one too many", async () => {
      const kept = join(stage.root, "kept.ext4");
      await copyFile(rootfsOf(), kept);
      const restore = async (): Promise<void> => {
        await rm(rootfsOf());
        await copyFile(kept, rootfsOf());
      };
      await expectSeen(/missing or damaged/, async (undo) => {
        await appendFile(rootfsOf(), "x");
        undo.defer(restore);
      });
      await expectSeen(/missing or damaged/, async (undo) => {
        const { size } = readRecords(home.path).rootfs[0]?.fingerprint ?? { size: 0 };
        await truncate(rootfsOf(), 0);
        await truncate(rootfsOf(), size);
        undo.defer(restore);
      });
    });

    test("an operation and a saga that are left, and a VM on its way that holds what nobody gave it", async () => {
      const record = JSON.stringify({ operation: "op_left", saga: "vm.start" });
      await expectSeen(/the saga vm\.start of op_left is left/, async (undo) =>
        inDatabase(undo, `INSERT INTO sagas VALUES ('op_left', '${record}')`, "DELETE FROM sagas WHERE operation = 'op_left'"),
      );
      const operation = JSON.stringify({ kind: "vm.start", state: "running" });
      await expectSeen(/an operation is left: vm\.start, running/, async (undo) =>
        inDatabase(
          undo,
          `INSERT INTO operations (id, started_at, active, record) VALUES ('op_left', '', 1, '${operation}')`,
          "DELETE FROM operations WHERE id = 'op_left'",
        ),
      );
      const setState = (state: string): string => `UPDATE vms SET record = json_set(record, '$.state', '${state}')`;
      await expectSeen(/the VM web is starting/, async (undo) => inDatabase(undo, setState("starting"), setState("created")));
      await expectSeen(/^memory that is reserved/, async (undo) => inDatabase(undo, setState("running"), setState("created")));
    });
  });
});
