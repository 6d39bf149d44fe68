import { KilnError } from "@kiln/protocol";
import { parseQemuVersion, requireQemuVersion } from "../../../packages/daemon/src/vmm/qemu/version.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Takes what `--version` says, and gives the version if it is new enough. Throws VMM_TOO_OLD. */
type Check = (said: string) => string;

/** QEMU 7.2 or newer is needed. */
const INSTALLED: readonly { readonly said: string; readonly version: string; readonly isEnough: boolean }[] = [
  { said: "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", version: "7.2.22", isEnough: true },
  { said: "QEMU emulator version 7.1.0 (Debian 1:7.1+dfsg-2~bpo11+3)", version: "7.1.0", isEnough: false },
  { said: "QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)", version: "6.2.0", isEnough: false },
  { said: "QEMU emulator version 10.0.3 (Debian 1:10.0.3+ds-0+deb13u1)", version: "10.0.3", isEnough: true },
  { said: "QEMU emulator version 7.10.0", version: "7.10.0", isEnough: true },
  { said: "QEMU emulator version 9.2.1", version: "9.2.1", isEnough: true },
];
const NEEDED = "7.2";

const scenario = async (scheduler: Scheduler, check: Check): Promise<void> => {
  const host = new Actor(scheduler, "host");
  const { said, version, isEnough } = scheduler.dice.pick(INSTALLED);
  await host.step(`has ${said}`);
  const outcome = await outcomeOf((async () => check(said))());
  host.says(outcome.ok ? `is told that ${outcome.value} will do` : `is told: ${outcome.error.message}`);
  must(outcome.ok === isEnough, `QEMU ${version} is ${isEnough ? "new enough, and refused" : "too old, and used"}`);
  if (outcome.ok) return;
  const { error } = outcome;
  must(error instanceof KilnError && error.code === "VMM_TOO_OLD", `QEMU ${version} is too old, and the error has another code`);
  must(error.message.includes(version) && error.message.includes(NEEDED), `QEMU ${version} is too old, and the error does not name both`);
};

/** Versions are numbers, nearly. */
const compareAsNumber: Check = (said) => {
  const version = /(\d+\.\d+)/.exec(said)?.[1] ?? "0";
  if (Number.parseFloat(version) < Number.parseFloat(NEEDED)) {
    throw new KilnError("VMM_TOO_OLD", `QEMU ${version} is too old, ${NEEDED} is needed; found ${said}`);
  }
  return version;
};

export const exhibit: Exhibit = {
  id: "I21",
  title: "QEMU 7.10 is older than QEMU 7.2, says the comparison",
  story: [
    "No race, and it has broken more starts than most: a VMM that is too old is found by an argument that it does not know, in the middle",
    "of a boot, with the words `invalid option`. So a check is added that compares strings, for which 10.0 is older than 7.2, or numbers",
    "with a point, for which 7.10 is; and one update of the distribution later nothing starts any more.",
    "Order: the package is updated; the check refuses it.",
    "Kiln compares part by part before the VMM is used, and says which version it has found and which it needs: VMM_TOO_OLD.",
    "Code: `packages/daemon/src/vmm/qemu/version.ts`.",
  ],
  complaint: "new enough, and refused",
  kiln: (scheduler) => scenario(scheduler, (said) => requireQemuVersion(parseQemuVersion(said) ?? "")),
  naive: (scheduler) => scenario(scheduler, compareAsNumber),
};
