/** What one seed does: the commands of each client, and the faults between them. Pure, so that a seed is its plan; the timing is the machine's. */
import { assertNever } from "@kiln/std";
import { Dice } from "../sim/dice.ts";

export type ChaosDriver = "fake" | "qemu";

/** How an exec is made: by the SDK, by two sessions under one id at once, or by `kiln exec`. */
export type ExecWay = "sdk" | "twice" | "cli";

/** A command of each of these kinds. */
type Each<Kind extends string, Fields extends object = object> = Kind extends string ? { readonly kind: Kind } & Readonly<Fields> : never;

export type Command =
  | Each<"create", { vm: string; image: string; life: "idle" | "short" | "none"; autoRemove: boolean }>
  | Each<"start" | "stop" | "kill" | "inspect" | "logs" | "explain", { vm: string }>
  | Each<"remove", { vm: string; force: boolean }>
  | Each<"publish" | "unpublish", { vm: string; port: number }>
  | Each<"pull" | "untag" | "verify" | "rebuild", { image: string }>
  | Each<"tag", { image: string; name: string }>
  | Each<"promote", { vm: string; name: string }>
  | Each<"list" | "df" | "status" | "prune" | "cancel" | "list-by-cli">
  /** `insists`: a VM that does not run is started or created, and asked again. */
  | Each<"exec", { vm: string; way: ExecWay; holdMs: number; insists: boolean }>
  /** Ends a VM from within, or takes the daemon's channel to its agent. */
  | Each<"crash-guest" | "hang-up", { vm: string }>;

export const REGISTRY_MOODS = ["cut", "slow", "broken", "busy", "lying"] as const;
export type RegistryMood = (typeof REGISTRY_MOODS)[number];

export type Fault =
  | { readonly kind: "kill-daemon" | "stop-daemon"; readonly downMs: number }
  | { readonly kind: "kill-vmm" | "freeze-vmm"; readonly vm: string; readonly forMs: number }
  | { readonly kind: "fill-disk"; readonly leftBytes: number; readonly forMs: number }
  | { readonly kind: "registry"; readonly mood: RegistryMood; readonly forMs: number };
export type FaultKind = Fault["kind"];

export interface PlannedFault {
  /** It comes when so many commands have begun. */
  readonly after: number;
  readonly fault: Fault;
}

export interface Plan {
  readonly seed: number;
  readonly driver: ChaosDriver;
  /** A list for each client, who does it in order. */
  readonly clients: readonly (readonly Command[])[];
  /** In the order of `after`. */
  readonly faults: readonly PlannedFault[];
}

export interface PlanSize {
  readonly driver: ChaosDriver;
  readonly ops: number;
  readonly clients: number;
}

/** A few more VMs than clients, so that commands meet. */
const NAMES: Readonly<Record<ChaosDriver, number>> = { fake: 10, qemu: 4 };
export const IMAGE_TAGS = ["a", "b", "c"] as const;
const TAGS_OF_ITS_OWN = ["mine", "yours"] as const;
const PORTS = [80, 443] as const;

type Weights<Kind extends string> = Readonly<Record<Kind, number>>;

const COMMAND_WEIGHTS: Weights<Command["kind"]> = {
  ...{ create: 16, start: 12, stop: 4, kill: 2, remove: 6 },
  ...{ exec: 40, "crash-guest": 1.5, "hang-up": 1.5 },
  ...{ inspect: 4, logs: 3, explain: 2, list: 4, df: 1, status: 2 },
  ...{ publish: 2, unpublish: 2 },
  ...{ pull: 3, untag: 2, tag: 1, verify: 0.5, rebuild: 0.5, promote: 1, prune: 0.5 },
  ...{ cancel: 3, "list-by-cli": 0.1 },
};
/** Kill-vmm and freeze-vmm need a process, which a fake VM has none of: its guests crash from within. */
const FAULT_WEIGHTS: Readonly<Record<ChaosDriver, Weights<FaultKind>>> = {
  fake: { "kill-daemon": 2, "stop-daemon": 2, "kill-vmm": 0, "freeze-vmm": 0, "fill-disk": 3, registry: 5 },
  qemu: { "kill-daemon": 3, "stop-daemon": 2, "kill-vmm": 4, "freeze-vmm": 2, "fill-disk": 1, registry: 2 },
};
/** Commands between two faults, on average. */
const OPS_PER_FAULT: Readonly<Record<ChaosDriver, number>> = { fake: 130, qemu: 10 };
const EXEC_WAYS: Readonly<Record<ChaosDriver, Weights<ExecWay>>> = {
  fake: { sdk: 92, twice: 7.5, cli: 0.5 },
  qemu: { sdk: 75, twice: 15, cli: 10 },
};

export const planSeed = (seed: number, { driver, ops, clients }: PlanSize): Plan => {
  const dice = new Dice(seed);
  const all = Array.from({ length: ops }, (_, index) => (index < clients ? createFirst(dice, driver, index) : planCommand(dice, driver)));
  const count = Math.max(1, Math.round(ops / OPS_PER_FAULT[driver]));
  const faults = Array.from({ length: count }, () => ({
    after: clients + dice.below(Math.max(1, ops - clients)),
    fault: planFault(dice, driver),
  }));
  return {
    ...{ seed, driver },
    clients: Array.from({ length: clients }, (_, client) => all.filter((_command, index) => index % clients === client)),
    faults: faults.sort((a, b) => a.after - b.after),
  };
};

/** Each client begins with a VM, so that there is something to do with the next command. */
const createFirst = (dice: Dice, driver: ChaosDriver, index: number): Command => ({
  ...{ kind: "create", vm: `vm-${index % NAMES[driver]}`, image: dice.pick(IMAGE_TAGS), life: "idle", autoRemove: false },
});

const planCommand = (dice: Dice, driver: ChaosDriver): Command => {
  const kind = pickWeighted(dice, COMMAND_WEIGHTS);
  const vm = `vm-${dice.below(NAMES[driver])}`;
  const image = dice.pick(IMAGE_TAGS);
  switch (kind) {
    case "create":
      return { kind, vm, image, life: pickWeighted(dice, { idle: 8, short: 2, none: 1 }), autoRemove: dice.chance(0.15) };
    case "exec":
      return {
        kind,
        vm,
        way: pickWeighted(dice, EXEC_WAYS[driver]),
        holdMs: dice.chance(0.3) ? dice.below(60) : 0,
        insists: dice.chance(0.7),
      };
    case "remove":
      return { kind, vm, force: dice.chance(0.7) };
    case "publish":
    case "unpublish":
      return { kind, vm, port: dice.pick(PORTS) };
    case "pull":
    case "untag":
    case "verify":
    case "rebuild":
      return { kind, image };
    case "tag":
      return { kind, image, name: dice.pick(TAGS_OF_ITS_OWN) };
    case "promote":
      return { kind, vm, name: dice.pick(TAGS_OF_ITS_OWN) };
    case "list":
    case "df":
    case "status":
    case "prune":
    case "cancel":
    case "list-by-cli":
      return { kind };
    case "start":
    case "stop":
    case "kill":
    case "inspect":
    case "logs":
    case "explain":
    case "crash-guest":
    case "hang-up":
      return { kind, vm };
    default:
      return assertNever(kind);
  }
};

const planFault = (dice: Dice, driver: ChaosDriver): Fault => {
  const kind = pickWeighted(dice, FAULT_WEIGHTS[driver]);
  const slowly = driver === "qemu" ? 10 : 1;
  switch (kind) {
    case "kill-daemon":
    case "stop-daemon":
      return { kind, downMs: dice.below(100) };
    case "kill-vmm":
    case "freeze-vmm":
      return { kind, vm: `vm-${dice.below(NAMES[driver])}`, forMs: 200 + dice.below(3_000) };
    case "fill-disk":
      return { kind, leftBytes: dice.pick([0, 16, 256, 2048]) * 1024, forMs: (50 + dice.below(300)) * slowly };
    case "registry":
      return { kind, mood: dice.pick(REGISTRY_MOODS), forMs: (100 + dice.below(500)) * slowly };
    default:
      return assertNever(kind);
  }
};

const pickWeighted = <Kind extends string>(dice: Dice, weights: Weights<Kind>): Kind => {
  const entries = Object.entries(weights) as [Kind, number][];
  const total = entries.reduce((sum, [, weight]) => sum + weight, 0);
  let left = (dice.below(1_000_000) / 1_000_000) * total;
  for (const [kind, weight] of entries) {
    left -= weight;
    if (left < 0) return kind;
  }
  return dice.pick(entries)[0];
};
