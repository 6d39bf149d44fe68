import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { EntryTable } from "../write/entry-table.ts";
import type { NodeMetadata } from "../write/node.ts";
import { RecordLog } from "./record-log.ts";
import type { LayerRecord } from "./record.ts";
import { hashPath, PathSet } from "./path-set.ts";

const rawText = (maxLength: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: 1, maxLength }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const names = fc.array(fc.oneof(fc.constantFrom("a", "b", "usr"), rawText(255)), { maxLength: 6 });
const metadata: fc.Arbitrary<NodeMetadata> = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 0xffff_ffff }),
  gid: fc.integer({ min: 0, max: 0xffff_ffff }),
  modifiedAt: fc.record({ seconds: fc.maxSafeInteger(), nanoseconds: fc.integer({ min: 0, max: 999_999_999 }) }),
  xattrs: fc.constantFrom(new Map<string, Uint8Array>(), new Map([["user.a", Uint8Array.of(1)]])),
});
const device = fc.oneof(fc.integer(), fc.maxSafeInteger());
const record: fc.Arbitrary<LayerRecord> = fc.oneof(
  fc.record({ does: fc.constant("directory"), names, entry: metadata, opaque: fc.boolean() }),
  fc.record({ does: fc.constant("file"), names, entry: metadata }),
  fc.record({ does: fc.constant("symlink"), names, entry: metadata, target: rawText(4095) }),
  fc.record({
    does: fc.constant("special"),
    names,
    entry: metadata,
    kind: fc.constantFrom("character", "block", "fifo"),
    deviceMajor: device,
    deviceMinor: device,
  }),
  fc.record({ does: fc.constant("hardlink"), names, target: names }),
  fc.record({ does: fc.constant("whiteout"), names, isDevice: fc.boolean() }),
  fc.record({ does: fc.constant("opaque"), names }),
);

/** fast-check's own records sometimes have none. */
const withPrototype = (one: LayerRecord): LayerRecord =>
  "entry" in one ? { ...one, entry: { ...one.entry, modifiedAt: { ...one.entry.modifiedAt } } } : { ...one };

test("records come back as they were, in their order, and so does what they say of their nodes", () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 40 }), (made) => {
      const records = made.map(withPrototype);
      const entries = new EntryTable();
      const log = new RecordLog(entries, 3);
      for (const one of records) log.add(one);
      const read = Array.from(log, (one) => ("entry" in one ? { ...one, entry: entries.metadata(one.entry) } : one));
      assert.deepEqual(read, records);
    }),
  );
});

test("content comes back as it was: none, one run, or runs with holes between them", () => {
  const entries = new EntryTable();
  const entry = { mode: 0, uid: 0, gid: 0, modifiedAt: { seconds: 0, nanoseconds: 0 }, xattrs: new Map<string, Uint8Array>() };
  const contents = [
    { sizeBytes: 0, extents: [] },
    { sizeBytes: 2 ** 43, extents: [] },
    { sizeBytes: 5000, extents: [{ logical: 0, physical: 2 ** 27 - 2, count: 2 }] },
    { sizeBytes: 9000, extents: [{ logical: 1, physical: 70, count: 1 }] },
    {
      sizeBytes: 2 ** 44,
      extents: [
        { logical: 0, physical: 70, count: 32_768 },
        { logical: 2 ** 32 - 2, physical: 9, count: 1 },
      ],
    },
  ];
  const ids = contents.map(() => entries.add(entry, 0));
  assert.ok(ids.every((id) => !entries.hasContent(id)));
  for (const [index, content] of contents.entries()) entries.setContent(ids[index] ?? -1, content);
  assert.deepEqual(
    ids.map((id) => entries.content(id)),
    contents,
  );
  assert.deepEqual(
    ids.map((id) => entries.isInOnePiece(id)),
    [true, true, true, false, false],
  );
});

test("a kept attribute keeps nothing of the memory that it was parsed in", () => {
  const entries = new EntryTable();
  const parsed = Buffer.from("value");
  assert.ok(parsed.buffer.byteLength > parsed.length, "small buffers are views of a shared block");
  const entry = { mode: 0, uid: 0, gid: 0, modifiedAt: { seconds: 0, nanoseconds: 0 }, xattrs: new Map([["user.a", parsed]]) };
  const kept = entries.xattrs(entries.add(entry, 0)).get("user.a");
  assert.deepEqual(kept, new Uint8Array(parsed));
  assert.equal(kept.buffer.byteLength, parsed.length);
});

test("a set of paths knows those it was given and no others, before it grows and after", () => {
  const set = new PathSet();
  const path = (index: number): number => hashPath(["usr", `share-${index % 50}`, `file-${index}`]);
  for (let index = 0; index < 20_000; index += 1) set.add(path(index));
  for (let index = 0; index < 20_000; index += 1) assert.ok(set.has(path(index)));
  for (let index = 20_000; index < 40_000; index += 1) assert.ok(!set.has(path(index)));
  assert.equal(set.size, 20_000);
});
