import { Dice } from "../dice.ts";
import type { Faults } from "../world/faults.ts";
import { IMAGES, REGISTRY_IMAGES } from "./images.ts";
import type { Command, CommandName, Fate, FateName, Program, Setting } from "./program.ts";

/** Few, so that they collide. */
const VM_NAMES = ["a", "b", "c", "d"] as const;
const TAGS = ["registry.test/tagged", "registry.test/two"] as const;
const KEYS = ["k1", "k2", "k3"] as const;
const HOST_PORTS = [8001, 8002] as const;
const GUEST_PORTS = [80, 81] as const;

const CLIENTS_MOST = 8;
const COMMANDS_MOST = 6;
/** The larger the program, the fewer of them in a second; most defects need few commands. */
const SMALL = 0.95;

/** How often each is drawn, against the sum. */
const COMMAND_WEIGHTS: Readonly<Record<CommandName, number>> = {
  create: 30,
  start: 8,
  stop: 7,
  rm: 9,
  pull: 6,
  verify: 2,
  rebuild: 2,
  kill: 4,
  exec: 12,
  wait: 4,
  "image.rm": 5,
  tag: 3,
  prune: 4,
  "port.add": 3,
  "port.rm": 2,
  cancel: 5,
  idle: 3,
};

const FATE_WEIGHTS: Readonly<Record<FateName, number>> = {
  "daemon.kill": 8,
  "daemon.stop": 3,
  "power.loss": 3,
  "vmm.die": 3,
  "guest.off": 2,
  "registry.move": 4,
  damage: 4,
  "disk.full": 2,
};

/** A program whose seed is not that of its schedule. */
const PROGRAM_SALT = 0x5eed;

/** The program of a seed: always the same. */
export const drawProgram = (seed: number): Program => {
  const dice = new Dice(Math.imul(seed, 0x9e3779b1) ^ PROGRAM_SALT);
  const isSmall = dice.chance(SMALL);
  const clients = 1 + dice.below(isSmall ? 3 : CLIENTS_MOST);
  const setting = drawSetting(dice);
  return {
    setting,
    clients: Array.from({ length: clients }, (_, client) =>
      Array.from({ length: 1 + dice.below(isSmall ? 3 : COMMANDS_MOST) }, (_, index) =>
        drawCommand(dice, { first: index === 0, nonce: `n-${client}-${index}`, pool: setting.pool }),
      ),
    ),
    fates: Array.from({ length: dice.chance(0.5) ? 0 : 1 + dice.below(3) }, () => drawFate(dice)),
  };
};

const drawSetting = (dice: Dice): Setting => {
  const preboot = dice.chance(0.25);
  return {
    vms: 1 + dice.below(4),
    bootsLimit: 1 + dice.below(3),
    bootMs: dice.pick([0, 10, 1_000]),
    preboot,
    pool: preboot && dice.chance(0.4),
    faults: drawFaults(dice),
    badBoots: dice.chance(0.2) ? 0.3 : 0,
  };
};

/** How probable each is where it is drawn. A kill is thrown at each step of the daemon. */
const FAULTS: Readonly<Record<keyof Faults, number>> = {
  ...{ slow: 0.05, registry: 0.1, disk: 0.05, vmm: 0.1, death: 0.05, channel: 0.02, port: 0.2, kill: 0.005 },
};

/** Most programs have none, and few have several. */
const drawFaults = (dice: Dice): Partial<Faults> => {
  if (dice.chance(0.6)) return {};
  const kinds = Object.entries(FAULTS).filter(() => dice.chance(0.25));
  return Object.fromEntries(kinds);
};

const pickWeighted = <Name extends string>(dice: Dice, weights: Readonly<Record<Name, number>>): Name => {
  const entries = Object.entries<number>(weights) as [Name, number][];
  let left = dice.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
  for (const [name, weight] of entries) {
    left -= weight;
    if (left < 0) return name;
  }
  throw new RangeError("no weight is left");
};

const steps = (dice: Dice): number => dice.pick([0, 3, 10, 30, 100, 300]);
const keyOf = (dice: Dice): string | null => (dice.chance(0.3) ? dice.pick(KEYS) : null);
const answered = (dice: Dice): { wait: boolean; key: string | null } => ({ wait: dice.chance(0.75), key: keyOf(dice) });

const drawCreate = (dice: Dice, pool: boolean): Command => ({
  do: "create",
  name: dice.pick(VM_NAMES),
  image: dice.pick(IMAGES),
  pull: dice.pick(["missing", "missing", "missing", "always", "never"]),
  start: dice.chance(0.7),
  seconds: dice.pick([0, 1, 60, 3_600, 3_600, null]),
  autoRemove: dice.chance(0.2),
  size: dice.pick([1, 1, 1, 2]),
  hostPort: dice.chance(0.15) ? dice.pick([0, ...HOST_PORTS]) : null,
  network: pool ? "user" : "none",
  ...answered(dice),
});

const drawCommand = (dice: Dice, { first, nonce, pool }: { first: boolean; nonce: string; pool: boolean }): Command => {
  // without a VM there is little to do
  if (first && dice.chance(0.5)) return drawCreate(dice, pool);
  const name = pickWeighted(dice, COMMAND_WEIGHTS);
  const vm = dice.pick(VM_NAMES);
  const image = dice.pick(IMAGES);
  switch (name) {
    case "create":
      return drawCreate(dice, pool);
    case "start":
      return { do: name, vm, ...answered(dice) };
    case "stop":
      return { do: name, vm, timeoutMs: dice.pick([0, 100, 10_000]), ...answered(dice) };
    case "rm":
      return { do: name, vm, force: dice.chance(0.7), ...answered(dice) };
    case "pull":
      return { do: name, image, pull: dice.pick(["missing", "always"]), ...answered(dice) };
    case "verify":
    case "rebuild":
      return { do: name, image, ...answered(dice) };
    case "exec":
      return { do: name, vm, nonce, seconds: dice.pick([0, 0, 5]), leaves: dice.chance(0.2) ? steps(dice) : null };
    case "wait":
      return { do: name, vm, leaves: steps(dice) };
    case "image.rm":
      return { do: name, image: dice.pick([...IMAGES, ...TAGS]) };
    case "tag":
      return { do: name, image, target: dice.pick(TAGS) };
    case "prune":
      return { do: name, images: dice.chance(0.5) };
    case "port.add":
      return { do: name, vm, guestPort: dice.pick(GUEST_PORTS), hostPort: dice.pick([0, ...HOST_PORTS]) };
    case "port.rm":
      return { do: name, vm, guestPort: dice.pick(GUEST_PORTS) };
    case "kill":
      return { do: name, vm };
    case "cancel":
      return { do: name };
    case "idle":
      return { do: name, steps: steps(dice) };
  }
};

const drawFate = (dice: Dice): Fate => {
  const name = pickWeighted(dice, FATE_WEIGHTS);
  const after = dice.below(300);
  switch (name) {
    case "daemon.kill":
    case "daemon.stop":
    case "power.loss":
      return { do: name, after, down: dice.pick([0, 0, 10, 50]) };
    case "vmm.die":
    case "guest.off":
    case "damage":
      return { do: name, after, which: dice.below(8) };
    case "registry.move":
      return { do: name, after, image: dice.pick(REGISTRY_IMAGES) };
    case "disk.full":
      return { do: name, after, bytes: dice.pick([0, 100, 1_000]), steps: 50 };
  }
};
