import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { branchCount } from "./coverage.ts";
import { FUZZ_LIMITS } from "./limits.ts";
import { CURRENT_FILE, CURRENT_HEADER_BYTES, type Finding } from "./messages.ts";
import { Broken, type FuzzTarget, type Outcome } from "./target.ts";

/** The eight classes of AFL: how often a branch was taken. */
const CLASS = Uint8Array.from({ length: 256 }, (_, count) => {
  if (count <= 3) return count === 0 ? 0 : 1 << (count - 1);
  return [8, 16, 32, 128].reduce((found, end, index) => (count >= end ? 1 << (index + 4) : found), 1 << 3);
});

/** Feeds inputs to a target, and sees what they do. */
export class Attempts {
  readonly #target: FuzzTarget;
  readonly #scratch: string;
  readonly #current: number;
  readonly #buffer: Buffer;
  #seen = new Uint8Array(globalThis.kilnBranches.length);
  executions = 0;
  accepted = 0;

  constructor(target: FuzzTarget, scratch: string) {
    this.#target = target;
    this.#scratch = scratch;
    this.#current = openSync(join(scratch, CURRENT_FILE), "w");
    this.#buffer = Buffer.alloc(CURRENT_HEADER_BYTES + target.maxBytes);
  }

  [Symbol.dispose](): void {
    closeSync(this.#current);
    this.#target.close?.();
  }

  get features(): number {
    return this.#seen.reduce((sum, classes) => sum + classes.toString(2).replaceAll("0", "").length, 0);
  }

  forgetBranches(): void {
    this.#seen = new Uint8Array(this.#seen.length);
  }

  /** Runs one input; returns what is wrong with it. */
  async run(input: Buffer, thorough: boolean): Promise<Finding | null> {
    this.#note(input);
    globalThis.kilnBranches.fill(0, 0, branchCount());
    const began = process.cpuUsage();
    try {
      const result = this.#target.run(input, { thorough, scratch: this.#scratch });
      const outcome: Outcome = result instanceof Promise ? await result : result;
      if (outcome === "accepted") this.accepted += 1;
    } catch (error) {
      return { kind: "error", ...describe(error), input: input.toString("base64") };
    }
    const { user, system } = process.cpuUsage(began);
    const tookMs = (user + system) / 1000;
    if (tookMs < FUZZ_LIMITS.slowMs) return null;
    return { kind: "slow", key: "slow", message: `it took ${Math.round(tookMs)} ms of CPU`, input: input.toString("base64") };
  }

  /** Whether the last input took a branch, or took it in a class of how often, that none before it did. */
  sawNew(): boolean {
    const branches = globalThis.kilnBranches;
    const end = branchCount();
    let isNew = false;
    for (let index = 0; index < end; index += 1) {
      const count = branches[index] ?? 0;
      if (count === 0) continue;
      const bit = CLASS[count] ?? 0;
      const seen = this.#seen[index] ?? 0;
      if ((seen & bit) !== 0) continue;
      this.#seen[index] = seen | bit;
      isNew = true;
    }
    return isNew;
  }

  /** For the watchdog, which has to know what an input was that never ends. */
  #note(input: Buffer): void {
    this.executions += 1;
    this.#buffer.writeUInt32LE(this.executions >>> 0, 0);
    this.#buffer.writeUInt32LE(input.length, 4);
    input.copy(this.#buffer, CURRENT_HEADER_BYTES);
    writeSync(this.#current, this.#buffer, 0, CURRENT_HEADER_BYTES + input.length, 0);
  }
}

/** Frames of the engine are those of every finding. */
const OWN_FRAME = /\/fuzz\/engine\/|node:/;

const describe = (error: unknown): { key: string; message: string } => {
  if (!(error instanceof Error)) return { key: `thrown ${typeof error}`, message: String(error) };
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  const frame = frames.find((line) => !OWN_FRAME.test(line)) ?? frames[0] ?? "";
  const place = /([^/]+\/[^/]+:\d+):\d+\)?$/.exec(frame)?.[1] ?? frame.trim();
  // what does not hold is told apart by its words, without what is of this input alone
  const words = error instanceof Broken ? ` ${error.message.replaceAll(/\d+|"[^"]*"/g, "#").slice(0, 60)}` : "";
  return { key: `${error.name} at ${place}${words}`, message: `${error.name}: ${error.message} (${place})` };
};
