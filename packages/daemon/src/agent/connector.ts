import type { Duplex } from "node:stream";
import { KilnError } from "@kiln/protocol/errors";
import { assertEpoch, encodeOpening, HelloAckScanner, WIRE, WIRE_ERRORS, type HelloAck } from "@kiln/protocol/wire";
import { abortable, Deferred, withDeadline, type Clock, type RandomSource } from "@kiln/std";
import type { AgentConnector, AgentSession } from "../vms/agent.port.ts";
import { AGENT_LIMITS } from "./limits.ts";
import { WireAgentSession } from "./session.ts";

interface Opening {
  readonly ack: HelloAck;
  readonly rest: Uint8Array;
}

/**
 * Opens sessions over any ordered byte stream, described in protocol/src/wire. `connect` throws GUEST_AGENT_TIMEOUT where no HELLO_ACK
 * comes within `helloMs` or the channel ends first, GUEST_AGENT_PROTOCOL where the guest refuses; the channel is destroyed then.
 */
export const createAgentConnector = (options: { clock: Clock; random: RandomSource; helloMs?: number }): AgentConnector => ({
  async connect(channel: Duplex, { epoch, signal }): Promise<AgentSession> {
    assertEpoch(epoch);
    const { clock } = options;
    const helloMs = options.helloMs ?? AGENT_LIMITS.helloMs;
    const onTimeout = () => new KilnError("GUEST_AGENT_TIMEOUT", `the guest's agent did not answer within ${helloMs} ms`);
    try {
      const nonce = options.random.bytes(WIRE.nonceBytes);
      const { ack, rest } = await withDeadline(helloMs, (inner) => open(channel, { nonce, epoch, signal: inner }), {
        signal,
        clock,
        onTimeout,
      });
      const hello = { version: ack.version, epoch: ack.epoch, sessions: ack.sessions, ready: ack.ready };
      return new WireAgentSession(channel, { hello, rest, clock });
    } catch (error) {
      channel.destroy();
      throw error;
    }
  },
});

const open = async (channel: Duplex, options: { nonce: Uint8Array; epoch: number; signal: AbortSignal }): Promise<Opening> => {
  const { nonce, epoch, signal } = options;
  const scanner = new HelloAckScanner(nonce);
  const answer = new Deferred<Opening>();
  const onData = (bytes: Uint8Array): void => {
    const found = scanner.push(bytes);
    if (found === null) return;
    channel.pause();
    channel.off("data", onData);
    answer.resolve(found);
  };
  const onEnd = (error?: Error): void =>
    answer.reject(new KilnError("GUEST_AGENT_TIMEOUT", "the channel ended before the agent answered", { cause: error }));
  channel.on("data", onData);
  channel.on("error", onEnd);
  channel.on("close", onEnd);
  channel.on("end", onEnd);
  channel.write(encodeOpening({ nonce, version: WIRE.version, epoch }));
  try {
    const opening = await abortable(answer.promise, signal);
    checkAck(opening.ack, epoch);
    return opening;
  } finally {
    channel.off("data", onData);
    channel.off("close", onEnd);
    channel.off("end", onEnd);
    // the error listener stays: a channel that breaks between two listeners must not end the process
  }
};

const checkAck = (ack: HelloAck, epoch: number): void => {
  if (ack.error === WIRE_ERRORS.STALE_EPOCH)
    throw new KilnError("GUEST_AGENT_PROTOCOL", `the guest is in epoch ${ack.epoch}, past epoch ${epoch}`);
  if (ack.error !== WIRE_ERRORS.OK)
    throw new KilnError("GUEST_AGENT_PROTOCOL", `the agent speaks version ${ack.version} of the wire, not ${WIRE.version}`);
  if (ack.version !== WIRE.version || ack.epoch !== epoch || ack.sessions < 1)
    throw new KilnError("GUEST_AGENT_PROTOCOL", "the agent's HELLO_ACK contradicts the HELLO");
};
