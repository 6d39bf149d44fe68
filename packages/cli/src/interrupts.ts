import { KilnError } from "@kiln/protocol/errors";
import type { Host } from "./host.ts";

/** What a shell reports of a program that ends by the signal. */
const EXIT_CODES: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/** Returns whether the signal is dealt with; false lets it interrupt the command. */
export type SignalHandler = (signal: NodeJS.Signals) => boolean;

/**
 * SIGINT, SIGTERM and SIGHUP of the process. They abort `signal` with CANCELLED, unless who runs a guest's command
 * takes them for it. A second one that interrupts ends the process at once.
 */
export class Interrupts implements Disposable {
  readonly #controller = new AbortController();
  readonly #listening = new DisposableStack();
  readonly #host: Host;
  readonly #exit: (code: number) => void;
  #handler: SignalHandler | null = null;
  /** The exit code that the first interrupting signal asks for. */
  exitCode = 130;

  constructor(host: Host, exit: (code: number) => void) {
    this.#host = host;
    this.#exit = exit;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) this.#listen(signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Until disposed of, `handler` has the signals first, and those of `more` as well. */
  intercept(handler: SignalHandler, more: readonly NodeJS.Signals[] = []): Disposable {
    const before = this.#handler;
    this.#handler = handler;
    const stack = new DisposableStack();
    for (const signal of more) stack.use(this.#host.onSignal(signal, () => void handler(signal)));
    stack.defer(() => {
      this.#handler = before;
    });
    return stack;
  }

  /** Ends what runs, as if interrupted. */
  abort(reason: KilnError): void {
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    this.#listening.dispose();
  }

  #listen(signal: NodeJS.Signals): void {
    const onSignal = () => {
      if (this.#handler?.(signal) === true) return;
      if (this.#controller.signal.aborted) return this.#exit(this.exitCode);
      this.exitCode = EXIT_CODES[signal] ?? 130;
      this.#controller.abort(new KilnError("CANCELLED", "interrupted"));
    };
    this.#listening.use(this.#host.onSignal(signal, onSignal));
  }
}
