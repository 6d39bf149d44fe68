import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "..");

/** The invariants of building and publishing; I5 is about seeds of work disks, which do not exist yet. */
const IDS = ["I1", "I2", "I3", "I4", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "I43"];

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
  );

const provenBy = (id: string, where: (path: string) => boolean): readonly Named[] =>
  tests.filter(({ path, name }) => where(path) && new RegExp(`\\b${id}\\b`).test(name));

for (const [words, where] of [
  ["in one process", (path: string) => !TWO_PROCESSES.test(path)],
  ["with two processes on one home", (path: string) => TWO_PROCESSES.test(path)],
] as const) {
  test(`each invariant of building and publishing has a test with its id ${words}`, () => {
    assert.deepEqual(
      IDS.filter((id) => provenBy(id, where).length === 0),
      [],
    );
  });
}

test("an id that no test has is missed", () => {
  assert.deepEqual(
    provenBy("I0", () => true),
    [],
  );
  assert.ok(provenBy("I1", () => true).every(({ name }) => !name.startsWith("I10 ")));
});
