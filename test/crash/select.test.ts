import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { selectHits } from "./select.ts";

interface Hit {
  readonly point: string;
  readonly nth: number;
}

const trace = (points: readonly string[]): Hit[] =>
  points.map((point, index) => ({ point, nth: points.slice(0, index + 1).filter((one) => one === point).length }));

const POINTS = ["record.a.before", "record.a.after", "saga.b.begun", "saga.b.done", "saga.b.recorded", "publish.named", "x.booted"];

test("every failpoint is chosen, in the order in which they were met, none twice", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...POINTS), { minLength: 1, maxLength: 60 }), (points) => {
      const hits = trace(points);
      const chosen = selectHits(hits);
      assert.deepEqual(new Set(chosen.map(({ point }) => point)), new Set(points));
      assert.deepEqual(
        chosen,
        hits.filter((hit) => chosen.includes(hit)),
      );
    }),
  );
});

test("after each write there is a place that is chosen, and nothing is chosen twice between two writes without need", () => {
  const hits = trace(["record.a.before", "record.a.after", "saga.b.begun", "record.a.before", "record.a.after", "saga.b.begun"]);
  assert.deepEqual(
    selectHits(hits).map(({ point, nth }) => `${point}:${nth}`),
    ["record.a.before:1", "record.a.after:1", "saga.b.begun:2"],
  );
  const repeated = trace(["record.a.before", "record.a.after", "record.a.before", "record.a.after", "record.a.before", "record.a.after"]);
  assert.deepEqual(
    selectHits(repeated).map(({ point, nth }) => `${point}:${nth}`),
    ["record.a.before:1", "record.a.after:1", "record.a.after:2", "record.a.after:3"],
  );
});
