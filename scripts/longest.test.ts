import assert from "node:assert/strict";
import { test } from "node:test";
import { ROOT } from "./check.ts";
import { LONGEST } from "./longest.ts";
import { findTests } from "./tests.ts";

test("the files that take longest begin first, whatever they are called", async () => {
  const files = await findTests(ROOT);
  assert.deepEqual(
    LONGEST.filter((path) => !files.includes(path)),
    [],
    "what is in the list is there",
  );
  assert.deepEqual(files.slice(0, LONGEST.length), LONGEST);
  assert.equal(new Set(files).size, files.length);
  assert.deepEqual(files.slice(LONGEST.length), files.slice(LONGEST.length).toSorted());
});
