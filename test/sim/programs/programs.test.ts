import assert from "node:assert/strict";
import { test } from "node:test";
import { drawProgram } from "./draw.ts";
import { countOf, parseProgram, type Program } from "./program.ts";
import { shrink } from "./shrink.ts";
import { checkOf, Violation } from "./violation.ts";

const seeds = Array.from({ length: 300 }, (_, index) => index + 1);

test("a seed draws the same program each time, and it survives JSON", () => {
  for (const seed of seeds.slice(0, 50)) {
    assert.deepEqual(drawProgram(seed), drawProgram(seed));
    assert.deepEqual(parseProgram(JSON.parse(JSON.stringify(drawProgram(seed)))), drawProgram(seed));
  }
});

test("two thousand seeds draw every command, fate and fault, from one client to eight", () => {
  const programs = Array.from({ length: 2_000 }, (_, index) => drawProgram(index + 1));
  const commands = new Set(programs.flatMap(({ clients }) => clients.flat().map((command) => command.do)));
  const fates = new Set(programs.flatMap((program) => program.fates.map((fate) => fate.do)));
  assert.equal(commands.size, 17);
  assert.equal(fates.size, 8);
  assert.equal(new Set(programs.flatMap(({ setting }) => Object.keys(setting.faults))).size, 8);
  assert.deepEqual(new Set(programs.map(({ clients }) => clients.length)), new Set([1, 2, 3, 4, 5, 6, 7, 8]));
});

test("what is no program is refused", () => {
  for (const value of [null, {}, { setting: {}, clients: [[1]], fates: [] }]) assert.throws(() => parseProgram(value), TypeError);
});

test("a program shrinks to the two commands that fail together", async () => {
  const isFailing = ({ clients }: Program): boolean => {
    const all = clients.flat();
    return all.some((one) => one.do === "create" && one.start) && all.some((one) => one.do === "prune");
  };
  const large = seeds.map(drawProgram).find((program) => isFailing(program) && countOf(program) > 12);
  assert.ok(large !== undefined);
  const small = await shrink(large, async (candidate) => isFailing(candidate));
  assert.equal(countOf(small), 2);
  assert.deepEqual(
    small.clients
      .flat()
      .map((command) => command.do)
      .toSorted(),
    ["create", "prune"],
  );
  assert.deepEqual(small.setting.faults, {});
});

test("failures with other numbers and ids are one defect", () => {
  assert.equal(checkOf(new Violation("names-unique", "a")), checkOf(new Violation("names-unique", "b")));
  assert.equal(checkOf(new Error("the VM 0123456789ab after 12 ms")), checkOf(new Error("the VM ba9876543210 after 7 ms")));
});
