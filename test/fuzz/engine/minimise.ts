/** Takes pieces away, from halves down to single bytes, as long as what is left `isSame`. */
export const minimise = async (input: Buffer, isSame: (smaller: Buffer) => Promise<boolean>, maxRuns: number): Promise<Buffer> => {
  let best = input;
  let runs = 0;
  for (let piece = Math.ceil(best.length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let at = 0; at < best.length && runs < maxRuns;) {
      const smaller = Buffer.concat([best.subarray(0, at), best.subarray(at + piece)]);
      runs += 1;
      if (await isSame(smaller)) best = smaller;
      else at += piece;
    }
  }
  return best;
};
