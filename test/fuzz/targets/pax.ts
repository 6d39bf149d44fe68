import { describeEntry, extend } from "../../../packages/formats/src/tar/describe.ts";
import { TarError } from "../../../packages/formats/src/tar/index.ts";
import { parsePax, parsePaxTime, type PaxRecords } from "../../../packages/formats/src/tar/pax.ts";
import { isPaxSparse1, paxSparseMap } from "../../../packages/formats/src/tar/sparse.ts";
import { paxRecord } from "../../../packages/formats/src/tar/tar-writer.fixture.ts";
import { mutateBytes, replace } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others } from "../engine/target.ts";
import { PAX_KEYS, PAX_VALUES, someRecords } from "./tar-changes.ts";

const HEADER = {
  ...{ typeFlag: "0", name: "name", linkName: "", mode: 0o644, uid: 0, gid: 0 },
  ...{ size: 0, mtime: 0, deviceMajor: 0, deviceMinor: 0 },
};

/** All that is made of the records of one header. */
const useRecords = (pax: PaxRecords): void => {
  const said = extend({ pending: true, offset: 0, pax, longName: null, longLink: null });
  const entry = describeEntry(HEADER, said, said.size ?? 0);
  mustHold(Number.isSafeInteger(entry.modifiedAt.seconds), () => `mtime is ${entry.modifiedAt.seconds}`);
  mustHold(
    entry.modifiedAt.nanoseconds >= 0 && entry.modifiedAt.nanoseconds < 1e9,
    () => `nanoseconds are ${entry.modifiedAt.nanoseconds}`,
  );
  mustHold(Number.isSafeInteger(entry.uid) && Number.isSafeInteger(entry.sizeBytes), () => `uid ${entry.uid}, size ${entry.sizeBytes}`);
  const atime = pax.values.get("atime");
  if (atime !== undefined) parsePaxTime(atime, 0);
  if (!isPaxSparse1(pax))
    for (const { offset, length } of paxSparseMap(pax, 0) ?? []) mustHold(offset >= 0 && length >= 0, () => "a negative map");
};

/** What was read, written again, reads the same. */
const checkAgain = (pax: PaxRecords): void => {
  const records = [
    ...[...pax.values].map(([key, value]) => paxRecord(key, value)),
    ...pax.sparse.map((value) => paxRecord("GNU.sparse.offset", value)),
  ];
  const again = parsePax(Buffer.from(records.join(""), "latin1"), 0);
  const values = (one: PaxRecords): string => JSON.stringify([[...one.values], one.sparse]);
  mustHold(values(again) === values(pax), () => `${values(pax)} written again reads ${values(again)}`);
};

/** Where records begin, as their lengths say. */
const startsOf = (bytes: Buffer): number[] => {
  const starts: number[] = [];
  for (let at = 0; at < bytes.length;) {
    starts.push(at);
    const length = Number.parseInt(bytes.toString("latin1", at, at + 8), 10);
    if (!(length > 0)) break;
    at += length;
  }
  return starts;
};

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  const starts = startsOf(input);
  const index = dice.below(starts.length);
  const at = starts[index] ?? 0;
  const cut = (starts[index + 1] ?? input.length) - at;
  switch (dice.below(6)) {
    case 0:
      return replace(input, { at, cut: 0 }, Buffer.from(someRecords(dice), "latin1"));
    case 1:
      return replace(input, { at, cut }, Buffer.from(paxRecord(dice.pick(PAX_KEYS), dice.pick(PAX_VALUES)), "latin1"));
    case 2:
      return replace(input, { at, cut }, Buffer.from(paxRecord(dice.pick(PAX_KEYS), String(dice.next())), "latin1"));
    case 3:
      return replace(input, { at, cut });
    case 4: // a length that is not the record's
      return replace(input, { at, cut: 0 }, Buffer.from(String(dice.pick([0, 1, 3, 5, 99, 1e9, 2 ** 53]))));
    default:
      return mutateBytes(input, dice, others);
  }
};

export const PAX: FuzzTarget = {
  about: "the records of a PAX header, and the entry made of them",
  holds: "what was read, written again, reads the same; numbers are whole, times have nanoseconds",
  maxBytes: 8 << 10,
  run: (input) => {
    try {
      const pax = parsePax(input, 0);
      checkAgain(pax);
      useRecords(pax);
    } catch (error) {
      if (!(error instanceof TarError)) throw error;
      return "refused";
    }
    return "accepted";
  },
  mutate,
};
