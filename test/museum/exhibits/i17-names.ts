import { KilnError } from "@kiln/protocol";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";
import { createRecords, draftOf } from "../vm-records.ts";

interface Wanted {
  readonly client: Actor;
  readonly number: number;
  readonly name: string;
}

interface Named {
  readonly name: string;
  readonly slot: number;
}

/** Who gives VMs their names and slots. Throws VM_NAME_TAKEN. */
interface Names {
  reserve(wanted: Wanted): Promise<void>;
  list(): readonly Named[];
}

const ROOM = { diskBytes: 2 ** 50 };
const WANTED = ["web", "db", "web", "web", "cache", "db"];

const scenario = async (scheduler: Scheduler, names: Names): Promise<void> => {
  const create = async (name: string, number: number): Promise<"won" | "taken"> => {
    const client = new Actor(scheduler, `create ${number}`);
    await client.step(`pull the image of ${name}`);
    const outcome = await outcomeOf(names.reserve({ client, number, name }));
    client.says(outcome.ok ? `has a VM that is named ${name}` : outcome.error.message);
    if (outcome.ok) return "won";
    must(outcome.error instanceof KilnError && outcome.error.code === "VM_NAME_TAKEN", `the loser is told ${outcome.error.message}`);
    return "taken";
  };
  const outcomes = await Promise.all(WANTED.map(async (name, index) => ({ name, outcome: await create(name, index + 1) })));
  for (const wanted of new Set(WANTED)) {
    const won = outcomes.filter(({ name, outcome }) => name === wanted && outcome === "won").length;
    must(won === 1, won === 0 ? `nobody got the name ${wanted}` : `two VMs share the name ${wanted}`);
  }
  const slots = names.list().map(({ slot }) => slot);
  must(new Set(slots).size === slots.length, `two VMs share a uid: their slots are ${slots.join(", ")}`);
};

/** Asks whether the name is free, then takes it. */
class LookThenInsert implements Names {
  readonly #rows: Named[] = [];

  async reserve({ client, name }: Wanted): Promise<void> {
    await client.step(`SELECT … WHERE name = '${name}'`);
    if (this.#rows.some((row) => row.name === name)) throw new KilnError("VM_NAME_TAKEN", `the name ${name} is taken`);
    const slot = Math.max(0, ...this.#rows.map((row) => row.slot)) + 1;
    client.says(`finds no VM ${name}`);
    await client.step(`INSERT ${name}`);
    this.#rows.push({ name, slot });
  }

  list(): readonly Named[] {
    return this.#rows;
  }
}

export const exhibit: Exhibit = {
  id: "I17",
  title: "A name, once looked up, is not yet mine",
  story: [
    "Two creates ask for a VM named web. Each looks whether there is one, and there is none; each inserts its own. Two VMs are named web,",
    "`rm web` removes either, and both got one uid: the lowest free slot was computed from the same list. A UNIQUE index alone makes of it",
    "a create that fails at its end in the words of the database, with its image pulled and its disk made.",
    "Order: both look; both insert.",
    "Kiln looks and inserts in one transaction of microseconds in which nothing can be awaited: name, slot, disk space and ports are the",
    "VM's from then on, and the loser is told VM_NAME_TAKEN.",
    "Code: `packages/daemon/src/store/vm-store.ts`, reserve().",
  ],
  complaint: "two VMs share",
  kiln: async (scheduler) => {
    using records = createRecords();
    await scenario(scheduler, {
      reserve: async ({ client, number, name }) => {
        await client.step(`reserve ${name}`);
        records.vms.reserve(draftOf(number, { name }), ROOM);
      },
      list: () => records.vms.list(),
    });
  },
  naive: (scheduler) => scenario(scheduler, new LookThenInsert()),
};
