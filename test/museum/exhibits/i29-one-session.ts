import type { Duplex } from "node:stream";
import { type Frame, encodeHelloAck, encodeOpening, FRAME_TYPES, FrameReader, WIRE, WIRE_ERRORS } from "@kiln/protocol/wire";
import type { AgentConnector } from "../../../packages/daemon/src/vms/agent.port.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { layCable } from "../cable.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { createGuest } from "../guest.ts";
import { Actor } from "../stage.ts";

/** Registers the session of a restored guest; `onSession` is told of each, and begins the health check. */
type Register = (channel: Duplex, onSession: (session: Session) => void) => Promise<void>;

interface Session {
  readonly epoch: number;
  /** How many the agent has counted in this epoch. */
  readonly sessions: number;
}

/** The snapshot was taken in epoch 0. */
const [SAVED, EPOCH] = [0, 1];
const DOUBLED = 0.4;
const LATER = 40;

const scenario = async (scheduler: Scheduler, underTest: (connector: AgentConnector) => Register): Promise<void> => {
  const { guest, connector } = createGuest(scheduler);
  const [daemon, port] = [new Actor(scheduler, "daemon"), new Actor(scheduler, "port")];
  const channel = guest.openChannel();
  const copies = (from: string, bytes: Uint8Array): number => {
    const isDoubled = scheduler.dice.chance(DOUBLED);
    if (isDoubled) port.says(`delivers ${bytes.length} bytes of the ${from}'s twice`);
    return isDoubled ? 2 : 1;
  };
  const cable = layCable(scheduler, channel, { copies });
  const registered: Session[] = [];
  if (scheduler.dice.chance(DOUBLED)) {
    port.says("still has the answer of epoch 0 in its buffer, which the snapshot kept");
    cable.toHost(oldAnswer());
  }
  const registering = underTest(connector)(cable.host, (session) => {
    daemon.says(`registers a session of epoch ${session.epoch}`);
    registered.push(session);
  });
  for (let step = 0; step < LATER; step += 1) await port.step("carries");
  await registering;
  must(!registered.some(({ epoch }) => epoch === SAVED), "one restore registered a session of the epoch before it");
  must(registered.length === 1, `one restore registered ${registered.length} sessions`);
  must(registered[0]?.sessions === 1, `one restore registered itself ${registered[0]?.sessions} times with the agent`);
};

const oldAnswer = (): Uint8Array =>
  encodeHelloAck({
    ...{ nonce: new Uint8Array(WIRE.nonceBytes), version: WIRE.version, epoch: SAVED },
    ...{ sessions: 1, ready: true, error: WIRE_ERRORS.OK },
  });

/** Behind the magic, the nonce and the version. */
const sessionOf = ({ payload }: Frame): Session => {
  const view = new DataView(payload.buffer, payload.byteOffset);
  return { epoch: view.getUint32(28, true), sessions: view.getUint32(32, true) };
};

/** Whenever the guest says that it is there, it is there. */
const listen: Register = async (channel, onSession) => {
  const reader = new FrameReader();
  channel.on("data", (bytes: Uint8Array) => {
    for (const frame of reader.push(bytes)) if (frame.type === FRAME_TYPES.HELLO_ACK) onSession(sessionOf(frame));
  });
  channel.write(encodeOpening({ nonce: new Uint8Array(WIRE.nonceBytes), version: WIRE.version, epoch: EPOCH }));
};

export const exhibit: Exhibit = {
  id: "I29",
  title: "A restored guest says twice that it is there, and is registered twice",
  story: [
    "After a restore the guest's agent announces itself and the host's listener registers a session: a health check, a reader of output.",
    "But a snapshot holds what was in the port's buffers when it was taken, transports send again what they doubt has arrived, and the",
    "listener was registered once more by the code that resumes. Peers ended with two health checks, one of which heard nothing and",
    "declared the VM dead; or with a session from before the restore, whose guest was not there yet.",
    "Order: the old answer, or the new one twice; a registration for each.",
    "Kiln listens to nothing: it sends one HELLO with a nonce and the epoch of this restore, throws away whatever comes before the answer",
    "to just that, ignores its doubles, and begins to watch afterwards. The agent counts the sessions of each epoch and tells the count.",
    "Code: `packages/daemon/src/agent/connector.ts`, `packages/protocol/src/wire/hello.ts`.",
  ],
  complaint: "one restore registered",
  kiln: (scheduler) =>
    scenario(scheduler, (connector) => async (channel, onSession) => {
      const { signal } = new AbortController();
      onSession((await connector.connect(channel, { epoch: EPOCH, signal })).hello);
    }),
  naive: (scheduler) => scenario(scheduler, () => listen),
};
