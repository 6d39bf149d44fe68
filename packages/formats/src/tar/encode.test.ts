import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TAR_END_BYTES, TarError, TarParser, encodeEntry, paddingAfter } from "./index.ts";
import type { TarEntry, WrittenEntry } from "./index.ts";

const PLAIN: WrittenEntry = {
  type: "file",
  path: "f",
  linkPath: "",
  mode: 0o644,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
  modifiedAt: { seconds: 0, nanoseconds: 0 },
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: new Map(),
  segments: null,
};

interface Parsed {
  readonly entries: TarEntry[];
  /** Data and holes in order: a number is a hole. */
  readonly content: (number | string)[];
}

const parse = (tar: Uint8Array): Parsed => {
  const parsed: Parsed = { entries: [], content: [] };
  const parser = new TarParser({
    entry: (entry) => parsed.entries.push(entry) > 0,
    data: (bytes) => parsed.content.push(Buffer.from(bytes).toString("latin1")),
    hole: (length) => parsed.content.push(length),
    end: () => undefined,
  });
  parser.write(tar);
  parser.end();
  return parsed;
};

/** An entry with content of its size, or of its segments', and the end of the tar. */
const tarOf = (entry: WrittenEntry, fill = "c"): Buffer => {
  const stored = entry.segments?.reduce((sum, { length }) => sum + length, 0) ?? entry.sizeBytes;
  return Buffer.concat([encodeEntry(entry), Buffer.alloc(stored, fill), paddingAfter(stored), Buffer.alloc(TAR_END_BYTES)]);
};

const said = ({ offset: _, ...entry }: TarEntry): Omit<WrittenEntry, "segments"> => entry;
const meant = ({ segments: _, ...entry }: WrittenEntry): Omit<WrittenEntry, "segments"> => entry;

const rawName = (max: number): fc.Arbitrary<string> =>
  fc.array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: max }).map((bytes) => String.fromCharCode(...bytes));
/** A slash at the end would make a directory of a file. */
const path = fc.oneof(rawName(20), rawName(300), rawName(4096)).map((name) => name.replaceAll("/", "-"));
const id = fc.oneof(fc.nat({ max: 2 ** 21 + 1 }), fc.integer({ min: 0, max: 2 ** 32 - 2 }));
const time = fc
  .record({
    seconds: fc.oneof(fc.integer({ min: -(2 ** 31), max: 2 ** 34 }), fc.constantFrom(-1, 0, 8 ** 11 - 1, 8 ** 11)),
    nanoseconds: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 })),
  })
  .map(({ seconds, nanoseconds }) => ({ seconds, nanoseconds }));
const xattrs = fc
  .array(fc.tuple(rawName(40), fc.uint8Array({ maxLength: 600 })), { maxLength: 5 })
  .map((pairs) => new Map(pairs.map(([name, value]) => [`user.${name}`, Buffer.from(value)])));
const entry = fc
  .record({
    type: fc.constantFrom(
      "file" as const,
      "hardlink" as const,
      "symlink" as const,
      "character" as const,
      "block" as const,
      "fifo" as const,
    ),
    path,
    link: path,
    mode: fc.nat({ max: 0o7777 }),
    uid: id,
    gid: id,
    size: fc.nat({ max: 5000 }),
    modifiedAt: time,
    deviceMajor: fc.nat({ max: 4095 }),
    deviceMinor: fc.nat({ max: 2 ** 20 - 1 }),
    xattrs,
  })
  .map(({ link, size, deviceMajor, deviceMinor, ...rest }): WrittenEntry => {
    const isDevice = rest.type === "character" || rest.type === "block";
    return {
      ...rest,
      linkPath: rest.type === "hardlink" || rest.type === "symlink" ? link : "",
      sizeBytes: rest.type === "file" ? size : 0,
      deviceMajor: isDevice ? deviceMajor : 0,
      deviceMinor: isDevice ? deviceMinor : 0,
      segments: null,
    };
  });

test("whatever an entry is, the parser reads it back as it was written", () => {
  fc.assert(
    fc.property(entry, (one) => {
      const { entries, content } = parse(tarOf(one));
      assert.deepEqual(entries.map(said), [meant(one)]);
      assert.equal(content.join(""), "c".repeat(one.sizeBytes));
    }),
    { numRuns: 500 },
  );
});

const segments = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 2 ** 33 }), fc.integer({ min: 1, max: 700 })), { maxLength: 200 })
  .map((pairs) => {
    let position = 0;
    return pairs.map(([gap, length]) => {
      const segment = { offset: position + gap, length };
      position += gap + length;
      return segment;
    });
  });

test("a sparse file's stretches and its end come back, in the smallest map and in one of many blocks", () => {
  fc.assert(
    fc.property(segments, fc.constantFrom(0, 1, 10_000), path, (all, tail, name) => {
      const last = all.at(-1);
      const sizeBytes = (last === undefined ? 1 : last.offset + last.length) + tail;
      const one: WrittenEntry = { ...PLAIN, path: name, sizeBytes, segments: all };
      const { entries, content } = parse(tarOf(one));
      assert.deepEqual(entries.map(said), [meant(one)]);
      const expected: (number | string)[] = [];
      let position = 0;
      for (const { offset, length } of all) {
        expected.push(offset - position, "c".repeat(length));
        position = offset + length;
      }
      if (position < sizeBytes) expected.push(sizeBytes - position);
      assert.deepEqual(content, expected);
    }),
    { numRuns: 200 },
  );
});

test("a size of more than eleven octal digits is in a PAX record", () => {
  const sizeBytes = 8 ** 11;
  const header = encodeEntry({ ...PLAIN, sizeBytes });
  const parser = new TarParser({
    entry: (entry) => {
      assert.equal(entry.sizeBytes, sizeBytes);
      return false;
    },
    data: () => undefined,
    hole: () => undefined,
    end: () => undefined,
  });
  parser.write(header);
  assert.equal(header.length, 3 * 512);
});

test("what no reader would take is refused", () => {
  const refused = (one: Partial<WrittenEntry>): void =>
    assert.throws(
      () => encodeEntry({ ...PLAIN, ...one }),
      (error) => error instanceof TarError && error.code === "LIMIT",
    );
  refused({ path: "p".repeat(4097) });
  refused({ linkPath: "p".repeat(4097) });
  refused({ xattrs: new Map([["user.x", Buffer.alloc(2 ** 20)]]) });
  refused({ sizeBytes: 2 ** 40, segments: Array.from({ length: 2 ** 18 }, (_, index) => ({ offset: index * 4096 + 1, length: 1 })) });
});
