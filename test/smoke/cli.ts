import assert from "node:assert/strict";
import type { Outcome, RunOptions, Started, TestHome } from "../e2e/home.ts";
import { OUTPUT_CHARACTERS } from "./limits.ts";

/** What a scenario did, in words for people. */
export class Transcript {
  readonly #lines: string[] = [];

  add(line: string): void {
    this.#lines.push(line);
  }

  toString(): string {
    return this.#lines.join("\n");
  }
}

/** A line of RFC 9457 on standard error. */
export interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
  readonly object: string | null;
  readonly operation: string | null;
}

/** The command line of one home, as a scenario uses it: every command is written down, and is killed when the signal aborts. */
export class Cli {
  readonly home: TestHome;
  readonly #transcript: Transcript;
  readonly #signal: AbortSignal;

  constructor(home: TestHome, { transcript, signal }: { readonly transcript: Transcript; readonly signal: AbortSignal }) {
    this.home = home;
    this.#transcript = transcript;
    this.#signal = signal;
  }

  /** Runs `kiln ARGS` to its end, whatever that is. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return this.start(args, options).outcome;
  }

  start(args: readonly string[], options: RunOptions = {}): Started {
    this.#signal.throwIfAborted();
    const began = performance.now();
    const started = this.home.start(args, { ...options, signal: this.#signal });
    const outcome = async (): Promise<Outcome> => {
      const result = await started.outcome;
      this.#transcript.add(`$ kiln ${args.join(" ")}  [${result.code}, ${Math.round(performance.now() - began)} ms]`);
      for (const text of [result.stdout, result.stderr]) if (text !== "") this.#transcript.add(shorten(text.trimEnd()));
      this.#signal.throwIfAborted();
      return result;
    };
    return { outcome: outcome(), interrupt: started.interrupt };
  }

  /** Runs it and expects exit code 0; its standard output. */
  async ok(...args: readonly string[]): Promise<string> {
    return (await this.exits(0, args)).stdout;
  }

  async exits(code: number, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const outcome = await this.run(args, options);
    assert.equal(outcome.code, code, `kiln ${args.join(" ")} exited with ${outcome.code}, not ${code}: ${outcome.stderr}`);
    return outcome;
  }

  /** The one JSON value that it prints. */
  async json<Value>(...args: readonly string[]): Promise<Value> {
    return JSON.parse(await this.ok("--json", ...args)) as Value;
  }

  /** A JSON value for each line that it prints. */
  async lines<Value>(...args: readonly string[]): Promise<Value[]> {
    const text = (await this.ok("--json", ...args)).trimEnd();
    return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Value);
  }

  /** Runs it with --json and expects this failure: nothing on standard output, and one line of RFC 9457. */
  async problem(expected: { readonly exit: number; readonly code: string }, ...args: readonly string[]): Promise<Problem> {
    const { stdout, stderr } = await this.exits(expected.exit, ["--json", ...args]);
    assert.equal(stdout, "");
    const problem = JSON.parse(stderr) as Problem;
    assert.equal(problem.code, expected.code, stderr);
    return problem;
  }
}

const shorten = (text: string): string =>
  text.length <= OUTPUT_CHARACTERS ? text : `${text.slice(0, OUTPUT_CHARACTERS)}\n… ${text.length - OUTPUT_CHARACTERS} characters more`;
