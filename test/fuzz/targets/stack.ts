/** A stack of layers as one input: each layer's length in 32 bits, then its tar. */
import type { Dice } from "../engine/dice.ts";
import type { Others } from "../engine/target.ts";
import { mutateTar } from "./tar-changes.ts";

const MAX_LAYERS = 5;

export const splitStack = (input: Buffer): Buffer[] => {
  const layers: Buffer[] = [];
  for (let at = 0; at + 4 <= input.length && layers.length < MAX_LAYERS;) {
    const length = Math.min(input.readUInt32LE(at), input.length - at - 4);
    layers.push(input.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return layers;
};

export const joinStack = (layers: readonly Uint8Array[]): Buffer =>
  Buffer.concat(
    layers.flatMap((layer) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(layer.length);
      return [length, layer];
    }),
  );

const someLayer = (stack: readonly Buffer[], dice: Dice): Buffer => stack[dice.below(stack.length)] ?? Buffer.alloc(0);

export const mutateStack = (input: Buffer, dice: Dice, others: Others): Buffer => {
  const layers = splitStack(input);
  const at = dice.below(layers.length);
  switch (dice.below(12)) {
    case 0:
      layers.splice(at, 0, someLayer(splitStack(others()), dice));
      break;
    case 1:
      layers.splice(at, 1);
      break;
    case 2:
      layers.push(someLayer(layers, dice));
      break;
    case 3:
      layers.reverse();
      break;
    default:
      layers[at] = mutateTar(layers[at] ?? Buffer.alloc(0), dice, () => someLayer(splitStack(others()), dice));
  }
  return joinStack(layers.slice(0, MAX_LAYERS));
};
