import type { Faults } from "../world/faults.ts";

/** What clients do and what befalls them: plain JSON, so that a program is kept, shrunken and replayed as a file. */
export interface Program {
  readonly setting: Setting;
  /** Each client does its commands in order; clients run at the same time. */
  readonly clients: readonly (readonly Command[])[];
  /** One after the other, beside the clients. */
  readonly fates: readonly Fate[];
}

export interface Setting {
  /** How many VMs of the smallest kind have room at once. */
  readonly vms: number;
  readonly bootsLimit: number;
  readonly bootMs: number;
  readonly preboot: boolean;
  readonly pool: boolean;
  /** What goes wrong at ports by itself, by its probability at each call; nothing unless it is here. */
  readonly faults: Partial<Faults>;
  /** Of each boot: the probability that the VMM refuses, dies, or hangs. */
  readonly badBoots: number;
}

interface Answered {
  /** false: the client goes on, and asks for the end when it has done all else. */
  readonly wait: boolean;
  readonly key: string | null;
}

export type Command =
  | ({
      readonly do: "create";
      readonly name: string;
      readonly image: string;
      readonly pull: "missing" | "always" | "never";
      readonly start: boolean;
      /** What the VM's own command does: sleeps so many seconds; null: it is idle. */
      readonly seconds: number | null;
      readonly autoRemove: boolean;
      /** In VMs of the smallest kind. */
      readonly size: number;
      readonly hostPort: number | null;
      readonly network: "none" | "user";
    } & Answered)
  | ({ readonly do: "start"; readonly vm: string } & Answered)
  | ({ readonly do: "stop"; readonly vm: string; readonly timeoutMs: number } & Answered)
  | ({ readonly do: "rm"; readonly vm: string; readonly force: boolean } & Answered)
  | ({ readonly do: "pull"; readonly image: string; readonly pull: "missing" | "always" } & Answered)
  | ({ readonly do: "verify"; readonly image: string } & Answered)
  | ({ readonly do: "rebuild"; readonly image: string } & Answered)
  | { readonly do: "kill"; readonly vm: string }
  /** `leaves`: the client goes away after so many steps; null: it stays to the end. */
  | { readonly do: "exec"; readonly vm: string; readonly nonce: string; readonly seconds: number; readonly leaves: number | null }
  | { readonly do: "wait"; readonly vm: string; readonly leaves: number }
  | { readonly do: "image.rm"; readonly image: string }
  | { readonly do: "tag"; readonly image: string; readonly target: string }
  | { readonly do: "prune"; readonly images: boolean }
  | { readonly do: "port.add"; readonly vm: string; readonly guestPort: number; readonly hostPort: number }
  | { readonly do: "port.rm"; readonly vm: string; readonly guestPort: number }
  /** The newest operation of this client that it did not wait for. */
  | { readonly do: "cancel" }
  | { readonly do: "idle"; readonly steps: number };

interface After {
  /** Steps since the fate before, or since the beginning. */
  readonly after: number;
}

interface Down {
  /** Steps until the next daemon is started. */
  readonly down: number;
}

export type Fate =
  | ({ readonly do: "daemon.kill" } & After & Down)
  | ({ readonly do: "daemon.stop" } & After & Down)
  | ({ readonly do: "power.loss" } & After & Down)
  /** One of those that run then. */
  | ({ readonly do: "vmm.die"; readonly which: number } & After)
  | ({ readonly do: "guest.off"; readonly which: number } & After)
  | ({ readonly do: "registry.move"; readonly image: string } & After)
  /** One of the published files of then. */
  | ({ readonly do: "damage"; readonly which: number } & After)
  | ({ readonly do: "disk.full"; readonly bytes: number; readonly steps: number } & After);

export type CommandName = Command["do"];
export type FateName = Fate["do"];

export const countOf = ({ clients, fates }: Program): number => clients.reduce((sum, commands) => sum + commands.length, 0) + fates.length;

/** Throws a TypeError for what is no program. */
export const parseProgram = (value: unknown): Program => {
  const isObject = (one: unknown): one is Record<string, unknown> => typeof one === "object" && one !== null;
  const isDone = (one: unknown): boolean => isObject(one) && typeof one["do"] === "string";
  const { setting, clients, fates } = isObject(value) ? value : {};
  const lists: unknown[] = Array.isArray(clients) ? [...(clients as unknown[]), fates] : [];
  const isWhole = isObject(setting) && lists.length > 0 && lists.every((list) => Array.isArray(list) && list.every(isDone));
  if (!isWhole) throw new TypeError("a program has a setting, clients and fates");
  return value as Program;
};
