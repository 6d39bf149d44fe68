import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { KilnError } from "@kiln/protocol/errors";
import { parseBytes, parseDisk, parseMemory } from "./bytes.ts";
import { parseEnvironment, parseEnvironmentFile, parseLabels } from "./environment.ts";
import { guestCommand } from "./guest-command.ts";
import { parseCpus, parseSeconds } from "./numbers.ts";
import { exitCodeOf, parseSignal } from "./signals.ts";

const isUsage = (error: unknown): boolean => error instanceof KilnError && error.code === "USAGE" && error.exitCode === 2;

describe("sizes are docker's", () => {
  const table: readonly [string, number][] = [
    ["1", 1],
    ["1b", 1],
    ["2k", 2048],
    ["512m", 512 * 2 ** 20],
    ["512M", 512 * 2 ** 20],
    ["512MiB", 512 * 2 ** 20],
    ["512mb", 512 * 2 ** 20],
    ["1.5g", 1.5 * 2 ** 30],
    ["2t", 2 * 2 ** 40],
  ];
  for (const [text, bytes] of table) test(`${text} is ${bytes}`, () => assert.equal(parseBytes(text, "-m"), bytes));
  for (const text of ["", "m", "-1", "0", "1x", "1 2m", "0x10", "1e3", "0.1b", "999999999999t"]) {
    test(`"${text}" is refused`, () => assert.throws(() => parseBytes(text, "-m"), isUsage));
  }
  test("memory in other steps than 64 MiB is refused with the size that would do", () => {
    assert.equal(parseMemory("1g"), 2 ** 30);
    assert.throws(() => parseMemory("200m"), /256m would do/);
    assert.throws(() => parseMemory("1m"), isUsage);
  });
  test("a disk has whole blocks", () => {
    assert.equal(parseDisk("16777217"), 2 ** 24 + 4096);
    assert.throws(() => parseDisk("1k"), isUsage);
  });
});

describe("variables are docker's", () => {
  const caller = { HOME: "/root", EMPTY: "" };
  test("a value is kept as it is, a bare name is the caller's, an unknown one is left out", () => {
    assert.deepEqual(parseEnvironment(["A=b=c", "HOME", "EMPTY", "NOPE", "X="], caller), ["A=b=c", "HOME=/root", "EMPTY=", "X="]);
  });
  test("a variable without a name is refused", () => {
    assert.throws(() => parseEnvironment(["=x"], caller), isUsage);
    assert.throws(() => parseEnvironment([""], caller), isUsage);
  });
  test("a file has entries by line, comments and empty lines", () => {
    assert.deepEqual(parseEnvironmentFile("\uFEFFA=1\r\n# no\n\n  B= two \nHOME\n", caller), ["A=1", "B= two ", "HOME=/root"]);
  });
  test("the last of a label's values counts", () => {
    assert.deepEqual(parseLabels(["a=1", "b", "a=2=3"]), { a: "2=3", b: "" });
    assert.throws(() => parseLabels(["=1"]), isUsage);
  });
});

test("one -- behind the name separates, a second one is the guest's", () => {
  assert.deepEqual(guestCommand(["--", "a", "--"]), ["a", "--"]);
  assert.deepEqual(guestCommand(["--", "--"]), ["--"]);
  assert.deepEqual(guestCommand(["a", "-x"]), ["a", "-x"]);
  assert.deepEqual(guestCommand([]), []);
});

test("numbers are whole and in range", () => {
  assert.equal(parseCpus("64"), 64);
  assert.equal(parseSeconds("0"), 0);
  for (const text of ["0", "65", "1.5", "-1", "x", ""]) assert.throws(() => parseCpus(text), isUsage);
});

describe("signals", () => {
  const table: readonly [string, string][] = [
    ["9", "SIGKILL"],
    ["15", "SIGTERM"],
    ["hup", "SIGHUP"],
    ["SIGUSR1", "SIGUSR1"],
    ["rtmin+3", "SIGRTMIN+3"],
  ];
  for (const [text, name] of table) test(`${text} is ${name}`, () => assert.equal(parseSignal(text), name));
  test("an unknown signal is refused", () => {
    for (const text of ["NOPE", "0", "", "99", "KILL;rm"]) assert.throws(() => parseSignal(text), isUsage);
  });
});

test("an exit code is the command's, or 128 and its signal's number", () => {
  assert.equal(exitCodeOf({ exitCode: 7, signal: null }), 7);
  assert.equal(exitCodeOf({ exitCode: null, signal: "SIGKILL" }), 137);
  assert.equal(exitCodeOf({ exitCode: null, signal: "SIGTERM" }), 143);
  assert.equal(exitCodeOf({ exitCode: null, signal: "SIGRTMIN+1" }), 163);
});

test("no size makes the parser throw anything but a usage error", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        assert(parseBytes(text, "-m") > 0);
      } catch (error) {
        assert(isUsage(error));
      }
    }),
  );
});
