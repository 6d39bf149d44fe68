import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "..");

/** The invariants of building and publishing. */
const BUILDING = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "I43"];
/** Those of creating, running and surviving; the rest is about snapshots of VMs, which do not exist yet. */
const RUNNING = Array.from({ length: 12 }, (_, index) => `I${index + 16}`).concat(
  "I29",
  "I30",
  "I34",
  "I35",
  "I36",
  "I37",
  "I38",
  "I39",
  "I40",
  "I41",
);

/** Tests whose processes share nothing but a directory. */
const TWO_PROCESSES = /^(test\/e2e\/|packages\/daemon\/src\/content\/two-processes|packages\/std\/src\/node\/publish-killed)/;

const NAME = /\b(?:test|it|suite|describe)\(\s*(?:"([^"\n]*)"|`([^`\n]*)`)/g;

interface Named {
  readonly path: string;
  readonly name: string;
}

const tests: readonly Named[] = globSync("{packages,test,scripts}/**/*.{test,contract}.ts", { cwd: ROOT, exclude: ["**/node_modules/**"] })
  .filter((path) => basename(path) !== basename(import.meta.filename))
  .flatMap((path) =>
    [...readFileSync(join(ROOT, path), "utf8").matchAll(NAME)].map(([, quoted, template]) => ({ path, name: quoted ?? template ?? "" })),
  )
  .concat(
    globSync("test/museum/exhibits/*.ts", { cwd: ROOT }).flatMap((path) =>
      [...readFileSync(join(ROOT, path), "utf8").matchAll(/\bid: "(I\d+)/g)].map(([, id]) => ({ path, name: id ?? "" })),
    ),
  );

const provenBy = (id: string, where: (path: string) => boolean): readonly Named[] =>
  tests.filter(({ path, name }) => where(path) && new RegExp(`\\b${id}\\b`).test(name));

const missing = (ids: readonly string[], where: (path: string) => boolean): readonly string[] =>
  ids.filter((id) => provenBy(id, where).length === 0);

test("each invariant has a test, or an exhibit of the museum, with its id in one process", () => {
  assert.deepEqual(
    missing([...BUILDING, ...RUNNING], (path) => !TWO_PROCESSES.test(path)),
    [],
  );
});

test("each invariant of building and publishing has a test with its id with two processes on one home", () => {
  // the seeds of I5 are those of work disks, which do not exist yet
  assert.deepEqual(
    missing(BUILDING, (path) => TWO_PROCESSES.test(path)),
    ["I5"],
  );
});

test("an id that no test has is missed", () => {
  assert.deepEqual(
    provenBy("I0", () => true),
    [],
  );
  assert.ok(provenBy("I1", () => true).every(({ name }) => !name.startsWith("I10 ")));
});
