import type { AgentConnector, AgentSession } from "../../../packages/daemon/src/vms/agent.port.ts";
import type { FakeGuest } from "../../../packages/daemon/src/vmm/fake/guest.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { layCable } from "../cable.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createGuest, SETUP } from "../guest.ts";
import { Actor, outcomeOf } from "../stage.ts";

/** Gives a session in which an exec can be done. */
type Sessions = (parts: { guest: FakeGuest; connector: AgentConnector }) => () => Promise<AgentSession>;

const EPOCH = 1;
const EXECS = 4;
const { signal } = new AbortController();
const REST = { env: [], cwd: "/", user: "", tty: null, stdin: false, overflow: "block" as const };

const exec = async (session: AgentSession, id: string): Promise<string> => {
  await session.exec({ id, argv: ["echo", id], ...REST }, { signal });
  await using attachment = await session.attach(id, { signal });
  let text = "";
  for await (const event of attachment.events) {
    if (event.type === "exit") break;
    text += new TextDecoder().decode(event.bytes);
    attachment.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  return text;
};

const scenario = async (scheduler: Scheduler, sessions: Sessions): Promise<void> => {
  const { guest, connector } = createGuest(scheduler);
  const first = await connector.connect(guest.openChannel(), { epoch: EPOCH, signal });
  await first.setup(SETUP, { signal });
  const sessionFor = sessions({ guest, connector });
  const client = async (_: unknown, index: number): Promise<void> => {
    const actor = new Actor(scheduler, `client ${index + 1}`);
    await actor.step("exec");
    const answer = await outcomeOf(sessionFor().then((session) => exec(session, `exec-${index + 1}`)));
    actor.says(answer.ok ? `is answered ${JSON.stringify(answer.value)}` : answer.error.message);
    must(answer.ok, `exec ${index + 1} of ${EXECS} got no answer: ${answer.ok ? "" : answer.error.message}`);
    must(answer.value === `exec-${index + 1}\n`, `exec ${index + 1} got the answer of another: ${answer.value}`);
  };
  await Promise.all(Array.from({ length: EXECS }, client));
};

export const exhibit: Exhibit = {
  id: "I27",
  title: "Several execs right after a start, and all but the last wait for a timeout",
  story: [
    "A connection for each exec is the obvious way: connect, ask, read to the end, close. It works until a guest has just started or been",
    "restored and several clients come at once. A virtio-serial port carries one conversation; a guest's listener has a backlog that is",
    "full before its loop has begun to accept. The new connection ends or starves the ones before, whose clients wait for their timeout.",
    "Order: one connects and asks; another connects; the first hears nothing more.",
    "Kiln has one session for each run of a VM, set up before anybody may exec, and all execs share it: each request has a number by",
    "which its answer finds it, each output its stream, and they take turns frame by frame.",
    "Code: `packages/daemon/src/agent/session.ts`, `requests.ts`.",
  ],
  complaint: "got no answer",
  kiln: (scheduler) =>
    scenario(scheduler, ({ guest, connector }) => {
      const cable = layCable(scheduler, guest.openChannel());
      const session = connector.connect(cable.host, { epoch: EPOCH, signal });
      return () => session;
    }),
  naive: (scheduler) =>
    scenario(scheduler, ({ guest, connector }) => async () => {
      const cable = layCable(scheduler, guest.openChannel());
      return connector.connect(cable.host, { epoch: EPOCH, signal });
    }),
};
