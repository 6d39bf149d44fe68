import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ERROR_TABLE } from "@kiln/protocol/errors";
import { ERRORS_PATH, generateErrors } from "./generate-errors.ts";

test("docs/errors.md is what the table of errors says", () => {
  assert.equal(readFileSync(ERRORS_PATH, "utf8"), generateErrors(), "run scripts/node scripts/generate-errors.ts");
});

test("every code has its place in docs/errors.md once, with its exit code and its hint", () => {
  const sections = generateErrors().split(/^### /m).slice(1);
  const codes = sections.map((section) => section.split("\n")[0] ?? "");
  assert.deepEqual(codes.toSorted(), Object.keys(ERROR_TABLE).toSorted());
  for (const [code, { exitCode, status, hint }] of Object.entries(ERROR_TABLE)) {
    const section = sections.find((one) => one.startsWith(`${code}\n`))?.replaceAll("`", "") ?? "";
    assert.ok(section.includes(`exit code ${exitCode}, HTTP ${status},`), section);
    assert.ok(section.includes(hint.replaceAll("`", "")), section);
  }
});
