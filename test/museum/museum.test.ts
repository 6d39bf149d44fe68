import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { exhibits } from "./exhibits.ts";
import { complaintsOf, judge } from "./judge.ts";
import { renderPage } from "./page.ts";

for (const exhibit of exhibits.values()) {
  const { id, title } = exhibit;
  test(`${id} ${title}: the naive way fails under some seed, Kiln under none`, async () => {
    assert.deepEqual(complaintsOf(await judge(exhibit)), []);
  });
}

test("each story fits on a label: one to ten lines", () => {
  for (const { id, story } of exhibits.values()) assert.ok(story.length >= 1 && story.length <= 10, id);
});

test("the page is what the exhibits say", () => {
  assert.equal(
    readFileSync(join(import.meta.dirname, "../../docs/museum.md"), "utf8"),
    renderPage(exhibits.values()),
    "npm run -s museum -- --write",
  );
});
