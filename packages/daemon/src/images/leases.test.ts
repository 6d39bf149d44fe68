import assert from "node:assert/strict";
import { test } from "node:test";
import type { Digest } from "@kiln/protocol";
import { FakeClock } from "@kiln/std";
import { ContentLeases } from "./leases.ts";

const DIGEST = `sha256:${"a".repeat(64)}` as Digest;

test("I23 what several leases hold is held until the last has ended, however often each is ended", () => {
  const leases = new ContentLeases(new FakeClock());
  const [one, two] = [leases.begin(), leases.begin()];
  one.hold(DIGEST);
  one.hold(DIGEST);
  two.hold(DIGEST);
  assert.equal(leases.active, 2);
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assert.equal(leases.isHeld(DIGEST), true);
  two[Symbol.dispose]();
  assert.equal(leases.isHeld(DIGEST), false);
  two.hold(DIGEST);
  assert.equal(leases.isHeld(DIGEST), false, "an ended lease holds nothing");
  assert.equal(leases.active, 0);
});

test("what a caller sends is held for a while", () => {
  const clock = new FakeClock();
  const leases = new ContentLeases(clock);
  leases.holdForAWhile(DIGEST);
  assert.equal(leases.isHeld(DIGEST), true);
  clock.advance(11 * 60_000);
  assert.equal(leases.isHeld(DIGEST), false);
});

test("what a failed pull has fetched is there for who tries again soon, and goes later", () => {
  const clock = new FakeClock();
  const leases = new ContentLeases(clock);
  const lease = leases.begin();
  lease.hold(DIGEST);
  lease.linger();
  lease[Symbol.dispose]();
  assert.equal(leases.active, 0);
  assert.equal(leases.isHeld(DIGEST), true);
  clock.advance(11 * 60_000);
  assert.equal(leases.isHeld(DIGEST), false);
});

test("what lingers goes when a person wants room, what is leased stays", () => {
  const leases = new ContentLeases(new FakeClock());
  using lease = leases.begin();
  lease.hold(DIGEST);
  leases.holdForAWhile(DIGEST);
  leases.holdForAWhile("other");
  assert.deepEqual([leases.isLeased(DIGEST), leases.isLeased("other"), leases.isHeld("other")], [true, false, true]);
  leases.endLingering();
  assert.deepEqual([leases.isHeld(DIGEST), leases.isHeld("other")], [true, false]);
});
