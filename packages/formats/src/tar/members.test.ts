import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { TarParser, TarError, listTarMembers, writeTar, type TarMember, type WrittenMember } from "./index.ts";
import { buildTar, tarHeader, type TarSpec } from "./tar-writer.fixture.ts";

const readAtOf = (tar: Uint8Array) => async (offset: number, length: number) => tar.subarray(offset, offset + length);

const membersOf = async (tar: Uint8Array): Promise<TarMember[]> => {
  const members: TarMember[] = [];
  for await (const member of listTarMembers(readAtOf(tar), { sizeBytes: tar.length })) members.push(member);
  return members;
};

/** Path, type, link and content of each entry, as the streaming parser has them. */
const parsed = (tar: Uint8Array): unknown[] => {
  const entries: { path: string; type: string; linkPath: string; content: Buffer[] }[] = [];
  const parser = new TarParser({
    entry: ({ path, type, linkPath }) => entries.push({ path, type, linkPath, content: [] }) > 0,
    data: (bytes) => void entries.at(-1)?.content.push(Buffer.from(bytes)),
    hole: (length) => void entries.at(-1)?.content.push(Buffer.alloc(length)),
    end: () => undefined,
  });
  parser.write(tar);
  parser.end();
  return entries.map((entry) => ({ ...entry, content: Buffer.concat(entry.content).toString("hex") }));
};

const listed = async (tar: Uint8Array): Promise<unknown[]> =>
  (await membersOf(tar)).map(({ path, type, linkPath, dataOffset, sizeBytes }) => ({
    ...{ path, type, linkPath },
    content: Buffer.from(tar.subarray(dataOffset, dataOffset + sizeBytes)).toString("hex"),
  }));

const arbitrarySpec: fc.Arbitrary<TarSpec> = fc.record({
  path: fc
    .string({ minLength: 1, maxLength: 150, unit: fc.constantFrom("a", "ü", "/", ".", "b") })
    .map((text) => Buffer.from(text).toString("latin1")),
  type: fc.constantFrom("file", "file", "directory", "symlink", "hardlink", "character", "fifo"),
  content: fc.uint8Array({ maxLength: 1500 }),
  link: fc.string({ maxLength: 150, unit: fc.constantFrom("x", "/", ".") }),
});

suite("the members of a tar", () => {
  test("are those that the streaming parser finds, each where its content lies", async () => {
    const specs = fc.array(
      arbitrarySpec.map((spec) => (spec.type === "file" ? spec : { ...spec, content: "" })),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(specs, async (all) => {
        const tar = buildTar(all);
        assert.deepEqual(await listed(tar), parsed(tar));
      }),
    );
  });

  test("are found without reading their contents", async () => {
    const tar = buildTar([{ path: "big", content: Buffer.alloc(10_000_000) }, { path: "next" }]);
    let readBytes = 0;
    const read = async (offset: number, length: number) => {
      readBytes += length;
      return tar.subarray(offset, offset + length);
    };
    const members: string[] = [];
    for await (const { path } of listTarMembers(read, { sizeBytes: tar.length })) members.push(path);
    assert.deepEqual(members, ["big", "next"]);
    assert(readBytes <= 3 * 512, String(readBytes));
  });

  const bad: readonly [string, Uint8Array, string][] = [
    ["no tar", Buffer.alloc(2048, "x"), "NUMBER"],
    ["a tar cut in a header", buildTar([{ path: "a" }]).subarray(0, 100), "TRUNCATED"],
    ["a tar cut in a content", buildTar([{ path: "a", content: "x".repeat(2000) }]).subarray(0, 1024), "TRUNCATED"],
    ["a size beyond the end", tarHeader({ name: "a", flag: "0", size: 8 ** 11 - 1 }), "TRUNCATED"],
    ["an extended header at the end", tarHeader({ name: "a", flag: "x", size: 0 }), "DANGLING"],
    ["an extended header of a gigabyte", tarHeader({ name: "a", flag: "x", size: 2 ** 30 }), "LIMIT"],
    ["an unknown type", tarHeader({ name: "a", flag: "Q", size: 0 }), "TYPE"],
    ["an old sparse file", tarHeader({ name: "a", flag: "S", size: 0 }), "SPARSE"],
    ["a sparse file of PAX", buildTar([{ path: "a", pax: { "GNU.sparse.major": "1" } }]), "SPARSE"],
    ["a PAX size beyond all files", buildTar([{ path: "a", pax: { size: "9007199254740991" } }]), "LIMIT"],
  ];
  for (const [name, tar, code] of bad) {
    test(`${name} is refused`, () => assert.rejects(membersOf(tar), (error) => error instanceof TarError && error.code === code));
  }

  test("whatever the bytes are, the answer is members or a TarError", async () => {
    const flips = fc.array(fc.tuple(fc.nat(4095), fc.nat(255)), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(fc.array(arbitrarySpec, { minLength: 1, maxLength: 4 }), flips, async (specs, changes) => {
        const tar = Uint8Array.from(buildTar(specs));
        for (const [at, value] of changes) if (at < tar.length) tar[at] = value;
        try {
          for (const { dataOffset, sizeBytes } of await membersOf(tar)) assert(dataOffset + sizeBytes <= tar.length);
        } catch (error) {
          assert(error instanceof TarError, String(error));
        }
      }),
    );
  });
});

const member = (path: string, content: string, type: WrittenMember["type"] = "file"): WrittenMember => ({
  path,
  type,
  sizeBytes: Buffer.byteLength(content),
  open: async function* open() {
    for (const byte of Buffer.from(content)) yield Uint8Array.of(byte);
  },
});

const written = async (members: readonly WrittenMember[]): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeTar(members)) chunks.push(chunk);
  return Buffer.concat(chunks);
};

suite("a tar that is written", () => {
  test("is read as it was meant, long names and letters of any script included", async () => {
    const paths = ["a", "d/e", "x".repeat(100), "y".repeat(101), "grün/日本", "z".repeat(300)];
    const tar = await written([member("dir", "", "directory"), ...paths.map((path, index) => member(path, "c".repeat(index * 300)))]);
    assert.deepEqual(await listed(tar), [
      { path: "dir/", type: "directory", linkPath: "", content: "" },
      ...paths.map((path, index) => ({
        path: Buffer.from(path).toString("latin1"),
        type: "file",
        linkPath: "",
        content: "63".repeat(index * 300),
      })),
    ]);
    assert.deepEqual(parsed(tar), await listed(tar));
    assert.equal(tar.length % 512, 0);
  });

  test("is the same for the same members", async () => {
    assert.deepEqual(await written([member("a", "b")]), await written([member("a", "b")]));
  });

  test("has a header of a file of 10 GiB that says so", async () => {
    const huge: WrittenMember = { ...member("huge", ""), sizeBytes: 10 * 2 ** 30 };
    const first = await writeTar([huge]).next();
    assert(!first.done);
    const tar = Buffer.from(first.value);
    const read = async (offset: number, length: number) =>
      offset < tar.length ? tar.subarray(offset, offset + length) : Buffer.alloc(length);
    for await (const { sizeBytes, dataOffset } of listTarMembers(read, { sizeBytes: 11 * 2 ** 30 })) {
      assert.deepEqual([sizeBytes, dataOffset], [10 * 2 ** 30, tar.length]);
    }
  });

  test("does not hide that a content has another length", async () => {
    await assert.rejects(written([{ ...member("a", "xy"), sizeBytes: 1 }]), (error) => error instanceof TarError && error.code === "LIMIT");
    await assert.rejects(
      written([{ ...member("a", "xy"), sizeBytes: 3 }]),
      (error) => error instanceof TarError && error.code === "TRUNCATED",
    );
  });
});
