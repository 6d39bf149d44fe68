/** The process under fuzz. Its arguments are one Job; it sends Messages to its parent, and ends. */
import { readFileSync } from "node:fs";
import { BROKEN } from "../targets/broken.ts";
import { TARGETS } from "../targets/index.ts";
import { Attempts } from "./attempts.ts";
import { readCorpus } from "./corpus.ts";
import { Dice } from "./dice.ts";
import { FUZZ_LIMITS } from "./limits.ts";
import type { Finding, Job, Message } from "./messages.ts";
import { minimise } from "./minimise.ts";
import type { FuzzTarget } from "./target.ts";

const send = (message: Message): Promise<void> =>
  new Promise((resolve, reject) => {
    if (process.send === undefined) return reject(new TypeError("the process under fuzz has no parent"));
    return process.send(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });

class Campaign {
  readonly #job: Job;
  readonly #target: FuzzTarget;
  readonly #attempts: Attempts;
  readonly #dice: Dice;
  readonly #inputs: Buffer[] = [];
  readonly #found = new Set<string>();
  readonly #committed: readonly Buffer[];

  constructor(job: Job, target: FuzzTarget, attempts: Attempts) {
    this.#job = job;
    this.#target = target;
    this.#attempts = attempts;
    this.#dice = new Dice(job.seed);
    this.#committed = job.only.length > 0 ? job.only.map((path) => readFileSync(path)) : readCorpus(job.target).map(({ input }) => input);
  }

  async run(): Promise<void> {
    for (const input of this.#committed) {
      const finding = await this.#attempts.run(input, true);
      if (finding !== null) await this.#report(finding, { whole: true });
      this.#attempts.sawNew();
      this.#inputs.push(input);
    }
    const { seconds, maxExecutions } = this.#job;
    const began = performance.now();
    const cpu = process.cpuUsage();
    const before = this.#attempts.executions;
    const goesOn = (): boolean =>
      performance.now() - began < seconds * 1000 &&
      this.#attempts.executions - before < (maxExecutions ?? Infinity) &&
      this.#found.size < FUZZ_LIMITS.findings;
    while (goesOn()) await this.#step();
    const took = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const cpuSeconds = (user + system) / 1e6;
    const { executions, accepted, features } = this.#attempts;
    const grown = this.#job.grow ? await this.#grown() : [];
    await send({ type: "done", summary: { executions: executions - before, accepted, seconds: took, cpuSeconds, features, grown } });
  }

  async #step(): Promise<void> {
    const dice = this.#dice;
    let input = this.#pick();
    const others = (): Buffer => this.#pick();
    for (let changes = 1 + dice.below(4); changes > 0; changes -= 1) input = this.#target.mutate(input, dice, others);
    input = input.subarray(0, this.#target.maxBytes);
    let finding = await this.#attempts.run(input, dice.once(FUZZ_LIMITS.thoroughOnce));
    if (this.#attempts.sawNew() && finding === null) {
      if (this.#inputs.length < FUZZ_LIMITS.corpusInputs) this.#inputs.push(input);
      finding = await this.#attempts.run(input, true);
    }
    if (finding !== null) await this.#report(finding, { whole: false });
  }

  /** Newer ones more often: they are where something new was seen last. */
  #pick(): Buffer {
    const { length } = this.#inputs;
    const [one, other] = [this.#dice.below(length), this.#dice.below(length)];
    return this.#inputs[this.#dice.once(2) ? Math.max(one, other) : one] ?? Buffer.alloc(0);
  }

  async #report(finding: Finding, { whole }: { readonly whole: boolean }): Promise<void> {
    if (this.#found.has(finding.key)) return;
    const input = Buffer.from(finding.input, "base64");
    const again = await this.#attempts.run(input, true);
    // a machine that was busy for a moment is no finding
    if (finding.kind === "slow" && again?.kind !== "slow") return;
    this.#found.add(finding.key);
    const isSame = async (smaller: Buffer): Promise<boolean> => (await this.#attempts.run(smaller, true))?.key === finding.key;
    const shown = whole || finding.kind === "slow" ? input : await minimise(input, isSame, FUZZ_LIMITS.minimiseRuns);
    await send({ type: "finding", finding: { ...finding, input: shown.toString("base64") } });
  }

  /** The shortest inputs that take all branches which the committed ones do not. */
  async #grown(): Promise<string[]> {
    this.#attempts.forgetBranches();
    for (const input of this.#committed) {
      await this.#attempts.run(input, false);
      this.#attempts.sawNew();
    }
    const grown: string[] = [];
    const found = this.#inputs.slice(this.#committed.length).sort((a, b) => a.length - b.length);
    for (const input of found.slice(0, FUZZ_LIMITS.grownInputs)) {
      await this.#attempts.run(input, false);
      if (this.#attempts.sawNew()) grown.push(input.toString("base64"));
    }
    return grown;
  }
}

const main = async (job: Job): Promise<void> => {
  const target = (await TARGETS[job.target]?.()) ?? BROKEN[job.target];
  if (target === undefined) throw new TypeError(`there is no target ${job.target}`);
  using attempts = new Attempts(target, job.scratch);
  await new Campaign(job, target, attempts).run();
};

await main(JSON.parse(process.argv[2] ?? "") as Job);
process.disconnect?.();
