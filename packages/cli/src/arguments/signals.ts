import { constants } from "node:os";
import { KilnError } from "@kiln/protocol/errors";

/** Names of Linux beyond those that Node knows: signal(7). */
const REAL_TIME = /^SIGRT(MIN|MAX)([+-]\d{1,2})?$/;

const numbers: Readonly<Partial<Record<string, number>>> = constants.signals;

/** "9", "KILL", "sigkill" as "SIGKILL". Throws USAGE. */
export const parseSignal = (text: string): string => {
  const upper = text.toUpperCase();
  const byNumber = Object.entries(numbers).find(([, number]) => String(number) === text)?.[0];
  const name = byNumber ?? (upper.startsWith("SIG") ? upper : `SIG${upper}`);
  if (numbers[name] === undefined && !REAL_TIME.test(name)) throw new KilnError("USAGE", `--signal ${text}: there is no such signal`);
  return name;
};

/** What a shell reports of a command: its code, or 128 + n of the signal that ended it. */
export const exitCodeOf = (end: { readonly exitCode: number | null; readonly signal: string | null }): number => {
  if (end.signal === null) return end.exitCode ?? 125;
  return 128 + signalNumber(end.signal);
};

const signalNumber = (name: string): number => {
  const known = numbers[name];
  if (known !== undefined) return known;
  const [, base, step] = REAL_TIME.exec(name) ?? [];
  if (base === undefined) return 0;
  return (base === "MIN" ? 34 : 64) + Number(step ?? 0);
};
