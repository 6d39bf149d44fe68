/** Changes that know nothing of a format. */
import type { Dice } from "./dice.ts";
import type { Others } from "./target.ts";

const INTERESTING = [0, 1, 0x0a, 0x20, 0x2f, 0x30, 0x37, 0x39, 0x3d, 0x7f, 0x80, 0xff] as const;
const LONGEST_PIECE = 64;

const NOTHING = Buffer.alloc(0);

/** `cut` bytes at `at` are replaced by `added`. */
export const replace = (input: Buffer, place: { readonly at: number; readonly cut: number }, added: Uint8Array = NOTHING): Buffer =>
  Buffer.concat([input.subarray(0, place.at), added, input.subarray(place.at + place.cut)]);

const withByte = (input: Buffer, at: number, value: number): Buffer => {
  const copy = Buffer.from(input);
  if (copy.length > 0) copy[at] = value;
  return copy;
};

/** One change of some bytes. */
export const mutateBytes = (input: Buffer, dice: Dice, others: Others): Buffer => {
  const at = dice.below(input.length);
  const cut = Math.min(1 + dice.below(LONGEST_PIECE), input.length - at);
  switch (dice.below(8)) {
    case 0:
      return withByte(input, at, dice.pick(INTERESTING));
    case 1:
      return withByte(input, at, (input[at] ?? 0) ^ (1 << dice.below(8)));
    case 2:
      return withByte(input, at, dice.below(256));
    case 3:
      return withByte(input, at, ((input[at] ?? 0) + dice.pick([1, -1, 16, -16])) & 0xff);
    case 4:
      return replace(input, { at, cut });
    case 5: // a piece twice
      return replace(input, { at, cut: 0 }, input.subarray(at, at + cut));
    case 6: {
      const other = others();
      const from = dice.below(other.length);
      return replace(input, { at, cut: dice.once(2) ? 0 : cut }, other.subarray(from, from + 1 + dice.below(LONGEST_PIECE * 8)));
    }
    default:
      return dice.once(4) ? input.subarray(0, at) : replace(input, { at, cut: 0 }, Buffer.alloc(1 + dice.below(8), dice.pick(INTERESTING)));
  }
};
