import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, copyFile, link, mkdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { listPoints, planCells, type Planned, type PlannedCell, planOperations, runCells } from "../crash/matrix.ts";
import { type CrashOperation, OPERATIONS, UNMET } from "../crash/operations.ts";
import { PAGE_HEAD } from "../crash/page.ts";
import { readRecords } from "../crash/records.ts";
import { BASE, copyHome, createStage, type Stage } from "../crash/stage.ts";
import { complaintsAbout } from "../crash/world.ts";
import type { TestHome } from "./home.ts";

/** Of the failpoints, one in so many is tried here, at one of the operations that meet it; all of them by `npm run crash-matrix`. */
const ONE_IN = 5;
/** To prepare an operation and to trace it costs as much as two of its cells. */
const OPERATIONS_HERE = 14;
const ADVICE = "`npm run crash-matrix` writes the page again";

const cellsOf = (line: string): string[] =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());

/** The rows of the page: a failpoint, and by each operation how it ended. */
const readPage = async (): Promise<{
  readonly text: string;
  readonly head: readonly string[];
  readonly rows: ReadonlyMap<string, readonly string[]>;
}> => {
  const text = await readFile(join(import.meta.dirname, "../../docs/crash-matrix.md"), "utf8");
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  const rows = lines.slice(2).map((row) => [(cellsOf(row)[0] ?? "").replaceAll("`", ""), cellsOf(row).slice(1)] as const);
  return { text, head: cellsOf(lines[0] ?? ""), rows: new Map(rows) };
};

/** Of every so many failpoints one, with an operation that meets it as the page says: other ones for each, as long as they may be more. */
const chooseHere = (rows: ReadonlyMap<string, readonly string[]>): ReadonlyMap<string, CrashOperation> => {
  const chosen = new Map<string, CrashOperation>();
  for (const [index, [point, ends]] of [...rows].entries()) {
    if (index % ONE_IN !== 0) continue;
    const here = OPERATIONS.filter(({ isSlow }, column) => isSlow !== true && ends[column] !== "");
    const known = new Set(chosen.values());
    const fresh = here.filter((operation) => !known.has(operation));
    const old = here.filter((operation) => known.has(operation));
    const from = old.length === 0 || (fresh.length > 0 && known.size < OPERATIONS_HERE) ? fresh : old;
    const operation = from[index % from.length];
    if (operation !== undefined) chosen.set(point, operation);
  }
  return chosen;
};

/** Where an operation is killed at a point and fails there as well, one of the two. */
const choose = (planned: readonly Planned[], chosen: ReadonlyMap<string, CrashOperation>): readonly PlannedCell[] => {
  const cells = planCells(planned);
  return [...chosen].map(([point, operation], index) => {
    const here = cells.filter(({ cell }) => cell.point === point && cell.operation === operation);
    return here[index % here.length] ?? assert.fail(`${operation.name} does not meet ${point}: ${ADVICE}`);
  });
};

describe("the crash matrix", () => {
  let stage: Stage;
  before(async () => {
    stage = await createStage();
  });
  after(() => stage[Symbol.asyncDispose]());

  test(`I35 kill -9 of the daemon, and a failure, at every ${ONE_IN}th failpoint leaves nothing lost, doubled or behind`, async ({
    signal,
  }) => {
    const chosen = chooseHere((await readPage()).rows);
    const cells = choose(await planOperations(stage, { operations: [...new Set(chosen.values())], signal }), chosen);
    assert.ok(cells.length > 25, `${cells.length} cells`);
    const results = await runCells(stage, cells, { onResult: () => undefined, signal });
    const bad = results.filter(({ complaints }) => complaints.length > 0);
    assert.deepEqual(
      bad.map(({ cell, outcome, complaints }) => [cell.operation.name, cell.action, `${cell.point}:${cell.nth}`, outcome, ...complaints]),
      [],
    );
  });

  test("the page has a row for every failpoint that the daemon lists, with a kill in it, and a column for every operation", async () => {
    const { text, head, rows } = await readPage();
    assert.deepEqual(head, PAGE_HEAD, ADVICE);
    assert.deepEqual(new Set(rows.keys()), new Set(await listPoints(stage)), ADVICE);
    for (const [point, cells] of rows) assert.equal(cells.join("") === "", Object.hasOwn(UNMET, point), `${point}: ${ADVICE}`);
    assert.ok(!text.includes("?"), "every outcome has a letter");
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
