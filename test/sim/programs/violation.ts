/** What a program has shown to be wrong. `check` is the same for all programs that show the same. */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly check: string;

  constructor(check: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.check = check;
  }
}

/** By which two failures are one defect: the check, or the error's name and the first words that hold no number. */
export const checkOf = (error: Error): string =>
  error instanceof Violation ? error.check : `${error.name}: ${error.message.replace(/[0-9a-f]{6,}|\d+/g, "N").slice(0, 60)}`;
