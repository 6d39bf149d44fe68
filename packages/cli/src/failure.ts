import { asKilnError, type KilnError } from "@kiln/protocol/errors";

/** An error whose exit code depends on when it happened, not on what it is. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly error: KilnError;
  readonly exitCode: number;

  constructor(error: KilnError, exitCode: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.exitCode = exitCode;
  }
}

/** What the table says of these holds before a guest's command as well: usage, interruption, the command itself. */
const KEPT = new Set([2, 126, 127, 130]);

/** A failure of run or exec before the guest's command ran: 125, as docker's. */
export const beforeCommand = (thrown: unknown): Failure => {
  if (thrown instanceof Failure) return thrown;
  const error = asKilnError(thrown);
  return new Failure(error, KEPT.has(error.exitCode) ? error.exitCode : 125);
};
