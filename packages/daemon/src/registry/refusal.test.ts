import assert from "node:assert/strict";
import { test } from "node:test";
import { plainText } from "./exchange-error.ts";
import { parseRetryAfter } from "./refusal.ts";

test("Retry-After is seconds or a date, and nothing else", () => {
  const now = Date.UTC(2030, 0, 1);
  assert.equal(parseRetryAfter("120", now), 120_000);
  assert.equal(parseRetryAfter(" 0 ", now), 0);
  assert.equal(parseRetryAfter("Tue, 01 Jan 2030 00:01:00 GMT", now), 60_000);
  assert.equal(parseRetryAfter("Mon, 31 Dec 2029 00:01:00 GMT", now), 0);
  for (const text of [null, "", "-1", "1.5", "soon", "99999999999", "1e3"]) assert.equal(parseRetryAfter(text, now), null, String(text));
});

test("somebody else's words are on one line, without control characters, and short", () => {
  assert.equal(plainText("a\u001b[31mb\r\n\tc\u0000 \u202ed"), "a [31mb c d");
  assert.equal(plainText("x".repeat(500)), `${"x".repeat(300)}…`);
  assert.equal(plainText("😀".repeat(301), 300), `${"😀".repeat(300)}…`);
});
