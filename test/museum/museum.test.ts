import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Exhibit, must } from "./exhibit.ts";
import { exhibits } from "./exhibits.ts";
import { complaintsOf, judge } from "./judge.ts";
import { renderPage } from "./page.ts";

for (const exhibit of exhibits.values()) {
  const { id, title } = exhibit;
  test(`${id} ${title}: the naive way fails under some seed, Kiln under none`, async () => {
    assert.deepEqual(complaintsOf(await judge(exhibit, { brief: true })), []);
  });
}

test("every invariant of building, publishing, creating and running has its exhibit", () => {
  const ids = [...Array.from({ length: 24 }, (_, at) => `I${at + 1}`), "I29", "I43"];
  assert.deepEqual(
    ids.filter((id) => !exhibits.has(id)),
    [],
  );
});

test("an exhibit that shows nothing is told of: a naive way that passes, one that crashes, and a Kiln that fails", async () => {
  const well = async (): Promise<void> => undefined;
  const broken = async (): Promise<void> => must(false, "two have one name");
  const crash = async (): Promise<void> => Promise.reject(new TypeError("no such method"));
  const sides = (naive: Exhibit["naive"], kiln: Exhibit["kiln"]): Exhibit => ({
    ...{ id: "I0", title: "An example", story: ["One line."], complaint: "one name", naive, kiln },
  });
  const of = async (exhibit: Exhibit): Promise<readonly string[]> => complaintsOf(await judge(exhibit, { count: 3 }));
  assert.deepEqual(await of(sides(broken, well)), []);
  assert.deepEqual(await of(sides(well, well)), ['I0: no seed of 3 makes the naive one fail with "one name"']);
  assert.match((await of(sides(crash, well))).join("\n"), /no seed of 3 .*\n.* crashes at seed 1: TypeError: no such method/);
  assert.deepEqual(await of(sides(broken, broken)), ["I0: Kiln fails at seed 1: Violation: two have one name"]);
});

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
