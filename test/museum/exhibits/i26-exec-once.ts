import { randomHex } from "@kiln/std";
import { startCommand } from "../../../packages/daemon/src/operations/boot-vm.ts";
import type { AgentSession } from "../../../packages/daemon/src/vms/agent.port.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Cable, layCable } from "../cable.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createGuest, SETUP } from "../guest.ts";
import { Actor, outcomeOf } from "../stage.ts";
import { draftOf } from "../vm-records.ts";

/** Starts the VM's command. Who is not answered asks again. */
type Start = (session: AgentSession) => Promise<void>;

const EPOCH = 1;
const CUTS = 2;
const COMMAND = ["echo", "charge the customer"];
const { signal } = new AbortController();

const scenario = async (scheduler: Scheduler, start: Start): Promise<void> => {
  const { guest, connector } = createGuest(scheduler);
  const [daemon, stranger] = [new Actor(scheduler, "daemon"), new Actor(scheduler, "channel")];
  let cable: Cable;
  const connect = async (): Promise<AgentSession> => {
    cable = layCable(scheduler, guest.openChannel());
    return connector.connect(cable.host, { epoch: EPOCH, signal });
  };
  const cutNowAndThen = async (): Promise<void> => {
    for (let cut = 0; cut < CUTS; cut += 1) {
      for (let at = scheduler.dice.below(8); at >= 0; at -= 1) await stranger.step("carries on");
      stranger.says("breaks");
      cable.cut();
    }
  };
  const attempt = async (): Promise<void> => {
    const session = await connect();
    await session.setup(SETUP, { signal });
    daemon.says("asks for the command");
    await start(session);
  };
  const cutting = cutNowAndThen();
  for (let done = false; !done;) {
    const outcome = await outcomeOf(attempt());
    done = outcome.ok;
    daemon.says(outcome.ok ? "was answered" : `was not answered: ${outcome.error.message}`);
  }
  await cutting;
  const known = await (await connect()).list({ signal });
  must(known.length === 1, `the command ran ${known.length} times`);
};

/** Each attempt is a new request. */
const askAgain =
  (scheduler: Scheduler): Start =>
  async (session) => {
    const id = randomHex(scheduler.dice.source, 8);
    const rest = { env: [], cwd: "/", user: "", tty: null, stdin: false, overflow: "block" as const };
    await session.exec({ id, argv: COMMAND, ...rest }, { signal });
    await session.attach(id, { signal });
  };

export const exhibit: Exhibit = {
  id: "I26",
  title: "The answer is lost, the request is sent again, and the command runs twice",
  story: [
    "The daemon tells the guest to run a command; the guest runs it; the channel breaks before the answer arrives. Nobody can tell that",
    "from a request that never arrived. Who gives up loses a command that ran; who asks again, as every HTTP client with retries does,",
    "charges the customer twice.",
    "Order: exec; it runs; the channel breaks; exec again; it runs again.",
    "Kiln's exec has an id of the caller's, the same in each attempt (a VM's own command is always `main`). The guest runs an id once,",
    "keeps its output and its exit until they are acknowledged, and answers whoever asks again with what there is already.",
    "Code: `packages/daemon/src/operations/boot-vm.ts`, startCommand(); `guest/agent/src/` is the other half.",
  ],
  complaint: "the command ran",
  kiln: (scheduler) => {
    const record = { ...draftOf(1, { name: "web", command: COMMAND }), slot: 1 };
    return scenario(scheduler, async (session) => void (await startCommand(record, session, signal)));
  },
  naive: (scheduler) => scenario(scheduler, askAgain(scheduler)),
};
