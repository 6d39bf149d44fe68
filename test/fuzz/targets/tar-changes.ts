/** Changes that know what a tar is: fields of headers, blocks, extended headers; checksums are made right again, mostly. */
import { paxRecord, sealHeader, tarHeader } from "../../../packages/formats/src/tar/tar-writer.fixture.ts";
import { mutateBytes, replace } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import type { Others } from "../engine/target.ts";

const BLOCK = 512;

/** Few names, so that entries meet. */
export const NAMES = [
  ...(["a", "b", "c", "a/b", "a/b/c", "b/a", "./a", "/a", "a/", "./", "/", "", ".", "..", "../a", "a/../b", "a/..", "//a//b"] as const),
  ...([
    ".wh.a",
    "a/.wh.b",
    "a/b/.wh.c",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    ".wh.",
    ".wh..",
    ".wh...",
    ".wh..wh.x",
    "\xff\xfe",
    "a\nb",
  ] as const),
  ...(["n".repeat(100), "a/".repeat(45), `${"m".repeat(60)}/b`] as const),
] as const;

const NUMBERS = [
  ...([
    "0000000\0",
    "7777777\0",
    "00000000000\0",
    "77777777777\0",
    "00000001000\0",
    "00000000001\0",
    "40000000000\0",
    "        ",
    "9999999\0",
  ] as const),
  ...([
    "-0000001\0",
    "\x80\0\0\0\0\0\0\x01",
    "\xff\xff\xff\xff\xff\xff\xff\xff",
    "\x80\0\0\0\0\0\0\0\0\0\0\x05",
    "\x80\0\0\0\0\0\0\x01\0\0\0\0",
  ] as const),
  ...([
    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
    "\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "\0\0\0\0\0\0\0\0",
    "0x10\0",
    "00000000644 ",
  ] as const),
] as const;

/** Where a field of a header begins, and its length. */
type Place = readonly [number, number];

const FIELDS: readonly [Place, ...Place[]] = [
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [124, 12],
  [124, 12],
  [136, 12],
  [329, 8],
  [337, 8],
  [386, 12],
  [398, 12],
  [483, 12],
];
const TEXT_FIELDS: readonly [Place, ...Place[]] = [
  [0, 100],
  [0, 100],
  [157, 100],
  [157, 100],
  [345, 155],
];
const FLAGS = "0\x001234567xgLKSVDMNZ";

/** Records that mean something to somebody. */
export const PAX_KEYS = [
  ...(["path", "linkpath", "size", "uid", "gid", "mtime", "atime", "ctime", "comment", "charset", "hdrcharset", "uname"] as const),
  ...(["GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.size", "GNU.sparse.map"] as const),
  ...([
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.numblocks",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.",
    "LIBARCHIVE.xattr.user.%41",
  ] as const),
  ...(["SCHILY.xattr.trusted.overlay.opaque", "SCHILY.xattr.trusted.overlay.redirect", "SCHILY.xattr.trusted.overlay.whiteout"] as const),
  ...(["SCHILY.xattr.system.posix_acl_access", "SCHILY.xattr.security.capability", "SCHILY.dev", "__proto__"] as const),
] as const;
export const PAX_VALUES = [
  ...([
    "",
    "0",
    "1",
    "5",
    "512",
    "4294967295",
    "4294967296",
    "8589934592",
    "9007199254740991",
    "9007199254740993",
    "99999999999999999999",
  ] as const),
  ...([
    "-1",
    "-1.5",
    "1.5",
    "1.999999999999",
    ".5",
    "1e9",
    "0x10",
    " 1",
    "a",
    "a/b",
    "../a",
    "/",
    "y",
    "x",
    "a\0b",
    "0,512",
    "0,5",
    "512,0",
    "1,2,3",
  ] as const),
  ...(["0,1,1,1,3,1", "\x02\0\0\0", "\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff", "QQ==", "p".repeat(300), "v".repeat(5000)] as const),
] as const;

/** Where blocks begin that look like headers. */
const headersOf = (tar: Buffer): number[] =>
  Array.from({ length: Math.floor(tar.length / BLOCK) }, (_, index) => index * BLOCK).filter(
    (at) => tar.toString("latin1", at + 257, at + 262) === "ustar" || (tar[at] !== 0 && tar[at + 148] === 0x30),
  );

const sealAll = (tar: Buffer): Buffer => {
  const copy = Buffer.from(tar);
  for (const at of headersOf(copy)) sealHeader(copy.subarray(at, at + BLOCK));
  return copy;
};

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);

export const someRecords = (dice: Dice): string =>
  Array.from({ length: 1 + dice.below(3) }, () => paxRecord(dice.pick(PAX_KEYS), dice.pick(PAX_VALUES))).join("");

/** An extended header of some kind, or an entry. */
const newPart = (dice: Dice): Buffer => {
  const name = dice.pick(NAMES);
  const kind = dice.below(6);
  if (kind < 3) {
    const body = Buffer.from(someRecords(dice), "latin1");
    return Buffer.concat([
      tarHeader({ name: "PaxHeaders/x", flag: kind === 2 && dice.once(3) ? "g" : "x", size: body.length }),
      padded(body),
    ]);
  }
  if (kind === 3) {
    const body = Buffer.from(`${dice.once(3) ? "l".repeat(1 + dice.below(400)) : name}\0`, "latin1");
    return Buffer.concat([tarHeader({ name: "././@LongLink", flag: dice.pick(["L", "K"]), size: body.length }), padded(body)]);
  }
  const flag = FLAGS[dice.below(FLAGS.length)] ?? "0";
  const content = flag === "0" && dice.once(2) ? Buffer.alloc(1 + dice.below(1500), dice.below(3)) : Buffer.alloc(0);
  return Buffer.concat([
    tarHeader({ name, flag, size: content.length, link: dice.pick(NAMES), mode: dice.below(0o10000) }),
    padded(content),
  ]);
};

const setField = (tar: Buffer, at: number, dice: Dice): Buffer => {
  const copy = Buffer.from(tar);
  const header = copy.subarray(at, at + BLOCK);
  const kind = dice.below(5);
  if (kind < 2) {
    const [start, length] = dice.pick(FIELDS);
    const value = dice.once(3)
      ? dice
          .below(3000)
          .toString(8)
          .padStart(length - 1, "0")
      : dice.pick(NUMBERS);
    header.write(value.slice(0, length), start, "latin1");
  } else if (kind < 4) {
    const [start, length] = dice.pick(TEXT_FIELDS);
    header.fill(0, start, start + length);
    header.write(dice.pick(NAMES).slice(0, length), start, "latin1");
  } else header.write(FLAGS[dice.below(FLAGS.length)] ?? "0", 156, "latin1");
  return copy;
};

/** A run of blocks from `at` on: mostly an entry with its content. */
const runFrom = (tar: Buffer, headers: readonly number[], at: number): Buffer =>
  tar.subarray(at, headers.find((next) => next > at) ?? Math.min(tar.length, at + 2 * BLOCK));

const changeOnce = (tar: Buffer, dice: Dice, others: Others): Buffer => {
  const headers = headersOf(tar);
  const [first = 0, ...more] = headers;
  const at = dice.pick([first, ...more]);
  const to = dice.pick([first, ...more]);
  switch (dice.below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return headers.length === 0 ? newPart(dice) : setField(tar, at, dice);
    case 4:
      return replace(tar, { at, cut: 0 }, newPart(dice));
    case 5: // an entry twice, elsewhere
      return replace(tar, { at: to, cut: 0 }, runFrom(tar, headers, at));
    case 6:
      return replace(tar, { at, cut: runFrom(tar, headers, at).length });
    case 7: {
      const other = others();
      const theirs = headersOf(other);
      const [one = 0, ...rest] = theirs;
      return replace(tar, { at, cut: 0 }, runFrom(other, theirs, dice.pick([one, ...rest])));
    }
    case 8:
      return tar.subarray(0, dice.below(tar.length + 1));
    default:
      return mutateBytes(tar, dice, others);
  }
};

export const mutateTar = (tar: Buffer, dice: Dice, others: Others): Buffer => {
  const changed = changeOnce(tar, dice, others);
  return dice.once(10) ? changed : sealAll(changed);
};
