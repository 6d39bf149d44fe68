import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { duplexPair, type Duplex } from "node:stream";
import { test, type TestContext } from "node:test";
import { FRAME_TYPES, encodeFrame, encodeOpening, HelloAckScanner, WIRE } from "@kiln/protocol/wire";
import { randomFraction, seededRandom, systemClock, systemRandom } from "@kiln/std";
import type { AgentSession, ExecEvent } from "../vms/agent.port.ts";
import { createAgentConnector } from "./connector.ts";
import { collect, eventsOf, execSpec, setupOf, TestAgent } from "./test-guest.ts";

const signal = AbortSignal.timeout(120_000);
const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
const sh = (id: string, script: string) => execSpec({ id, argv: ["/bin/sh", "-c", script] });

const agentOf = async (context: TestContext, kind: "listen" | "port" = "listen"): Promise<TestAgent> => {
  const agent = await TestAgent.start(kind);
  context.after(() => agent[Symbol.asyncDispose]());
  return agent;
};

const ready = async (context: TestContext): Promise<{ agent: TestAgent; session: AgentSession }> => {
  const agent = await agentOf(context);
  const session = await connector.connect(await agent.dial(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  return { agent, session };
};

/** A virtio port as a VMM has it: the guest's side stays, the host's comes and goes, and what was on its way is lost. */
class Port {
  readonly #port: Duplex;
  #guest: Duplex | null = null;
  /** Bytes to let through in each direction until the cut. */
  #budget = Infinity;

  constructor(port: Duplex) {
    this.#port = port;
    port.on("data", (bytes: Uint8Array) => this.#pass(this.#guest, bytes));
  }

  open(budget = Infinity): Duplex {
    this.#budget = budget;
    const [host, guest] = duplexPair();
    this.#guest = guest;
    guest.on("data", (bytes: Uint8Array) => this.#pass(this.#port, bytes));
    host.on("close", () => guest.destroy());
    guest.on("close", () => host.destroy());
    return host;
  }

  #pass(to: Duplex | null, bytes: Uint8Array): void {
    if (to === null || to.destroyed || this.#guest?.destroyed !== false) return;
    const passed = bytes.subarray(0, this.#budget);
    this.#budget -= passed.length;
    if (passed.length > 0) to.write(passed);
    if (passed.length < bytes.length) this.#guest.destroy();
  }
}

test("I26 a reader that reads nothing blocks neither another stream nor a request, and loses nothing", async (context) => {
  const { session } = await ready(context);
  await session.exec(sh("slow", "seq 1 200000"), { signal });
  await using slow = await session.attach("slow", { signal });
  const other = await collect(session, sh("other", "seq 1 200000"));
  await session.ping({ signal });
  assert.equal(other.stdout.length, 1_288_895);
  const [before] = await session.list({ signal });
  assert.equal(before?.running === undefined, false);
  let text = "";
  for await (const event of slow.events) {
    if (event.type === "exit") break;
    text += Buffer.from(event.bytes).toString();
    slow.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  assert.equal(text, other.stdout);
});

test("a full ring holds a command back, as any pipe does", async (context) => {
  const { session } = await ready(context);
  await session.exec(sh("held", "seq 1 200000; exit 4"), { signal });
  await systemClock.sleep(400, { signal });
  const [status] = await session.list({ signal });
  assert.equal(status?.running, true);
});

test("with drop a command never waits, and the gap is exact", async (context) => {
  const { session } = await ready(context);
  await session.exec({ ...sh("d", "seq 1000000 1299999"), overflow: "drop" }, { signal });
  const isRunning = async (): Promise<boolean> => (await session.list({ signal })).some((status) => status.running);
  while (await isRunning()) await systemClock.sleep(20, { signal });
  await using attachment = await session.attach("d", { signal });
  const events: ExecEvent[] = [];
  for await (const event of attachment.events) {
    events.push(event);
    if (event.type === "output") attachment.acknowledge(event.stream, event.offset + event.bytes.length);
  }
  const outputs = events.filter((event) => event.type === "output");
  assert.equal(outputs[0]?.offset, 300_000 * 8 - WIRE.ringBytes);
  for (const output of outputs) assertSequence(output.offset, output.bytes);
  assert.equal(events.at(-1)?.type, "exit");
});

/** Bytes of `seq 1000000 1299999` from `offset` on: eight a number. */
const assertSequence = (offset: number, bytes: Uint8Array): void => {
  const first = Math.floor(offset / 8);
  const count = Math.ceil((offset + bytes.length) / 8) - first;
  const text = Array.from({ length: count }, (_, index) => `${1_000_000 + first + index}\n`).join("");
  assert.equal(Buffer.from(bytes).toString(), text.slice(offset - first * 8, offset - first * 8 + bytes.length));
};

test("with drop a slow reader sees the jump in the offsets while the command runs", async (context) => {
  const { session } = await ready(context);
  await session.exec({ ...sh("d", "seq 1000000 1149999; sleep 0.3; seq 1150000 1299999"), overflow: "drop" }, { signal });
  await using attachment = await session.attach("d", { signal });
  await systemClock.sleep(900, { signal });
  let end = 0;
  let lost = 0;
  for await (const event of attachment.events) {
    if (event.type === "exit") break;
    lost += event.offset - end;
    assertSequence(event.offset, event.bytes);
    end = event.offset + event.bytes.length;
    attachment.acknowledge(event.stream, end);
  }
  assert.equal(end, 300_000 * 8);
  assert.ok(lost > 0);
});

test("channels cut at any byte, in both directions, lose and double nothing (I26)", async (context) => {
  const agent = await agentOf(context, "port");
  const port = new Port(agent.port);
  const random = seededRandom(7);
  const expected = Array.from({ length: 60_000 }, (_, index) => `${index + 1}\n`).join("");
  let text = "";
  let cuts = 0;
  for (let done = false; !done; cuts += 1) {
    // longer tries as it goes, so that it comes to an end
    const budget = Math.floor(randomFraction(random) * 2 * WIRE.flushBytes * (1 + cuts / 8));
    done = await attempt(port.open(budget), { read: () => text.length, add: (more) => (text += more) });
  }
  assert.ok(cuts > 10, `${cuts} cuts`);
  assert.equal(text, expected);
});

/** One session that starts or finds the command and reads on; true once its exit was seen. */
const attempt = async (channel: Duplex, output: { read(): number; add(text: string): void }): Promise<boolean> => {
  const own = createAgentConnector({ clock: systemClock, random: systemRandom, helloMs: 2000 });
  try {
    await using session = await own.connect(channel, { epoch: 1, signal });
    await session.setup(setupOf(), { signal });
    await session.exec(execSpec({ id: "count", argv: ["seq", "1", "60000"] }), { signal });
    await using attachment = await session.attach("count", { signal });
    for await (const event of attachment.events) {
      if (event.type === "exit") return true;
      assert.ok(event.offset <= output.read(), "a gap");
      output.add(Buffer.from(event.bytes.subarray(output.read() - event.offset)).toString());
      attachment.acknowledge(event.stream, event.offset + event.bytes.length);
    }
  } catch (error) {
    if (!isCut(error)) throw error;
  }
  return false;
};

const isCut = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === "GUEST_AGENT_TIMEOUT" || error.code === "CANCELLED");

test("a new attachment ends the one before", async (context) => {
  const { session } = await ready(context);
  await session.exec(sh("c", "echo first; sleep 0.3; echo second"), { signal });
  await using old = await session.attach("c", { signal });
  await using fresh = await session.attach("c", { signal });
  await assert.rejects(eventsOf(old), { code: "VM_STATE_CONFLICT" });
  const events = await eventsOf(fresh);
  assert.equal(events.at(-1)?.type, "exit");
});

test("I29 sessions are counted per epoch, a doubled HELLO counts once, and an old epoch is refused", async (context) => {
  const agent = await agentOf(context);
  const counts: number[] = [];
  for (const epoch of [1, 1, 2]) {
    const session = await connector.connect(await agent.dial(), { epoch, signal });
    counts.push(session.hello.sessions);
    assert.equal(session.hello.ready, epoch === 1 && counts.length === 2);
    await session.setup(setupOf(), { signal });
    await session[Symbol.asyncDispose]();
  }
  assert.deepEqual(counts, [1, 2, 1]);
  await assert.rejects(connector.connect(await agent.dial(), { epoch: 1, signal }), { code: "GUEST_AGENT_PROTOCOL" });
  const channel = await agent.dial();
  const nonce = systemRandom.bytes(16);
  channel.write(encodeOpening({ nonce, version: WIRE.version, epoch: 2 }));
  const answers = [await nextAck(channel, nonce)];
  channel.write(encodeOpening({ nonce, version: WIRE.version, epoch: 2 }));
  answers.push(await nextAck(channel, nonce));
  assert.deepEqual(answers, [2, 2]);
  channel.destroy();
});

const nextAck = async (channel: Duplex, nonce: Uint8Array): Promise<number> => {
  const scanner = new HelloAckScanner(nonce);
  for (;;) {
    const [bytes] = await new Promise<[Uint8Array]>((resolve) => channel.once("data", (chunk: Uint8Array) => resolve([chunk])));
    const found = scanner.push(bytes);
    if (found !== null) return found.ack.sessions;
  }
};

test("I29 frames of an earlier session and of streams that are not attached change nothing", async (context) => {
  const { agent } = await ready(context);
  const channel = await agent.dial();
  const session = await connector.connect(channel, { epoch: 1, signal });
  const payload = new Uint8Array(16);
  channel.write(encodeFrame({ type: FRAME_TYPES.STDIN, flags: 0, stream: 77, payload }));
  channel.write(encodeFrame({ type: FRAME_TYPES.ACK, flags: 1, stream: 77, payload: payload.subarray(0, 8) }));
  const run = await collect(session, sh("after", "echo fine"));
  assert.equal(run.stdout, "fine\n");
});

test("hostile bytes close nothing but their own session: the next HELLO is answered", async (context) => {
  const agent = await agentOf(context, "port");
  const port = new Port(agent.port);
  const random = seededRandom(11);
  for (let round = 0; round < 20; round += 1) {
    const channel = port.open();
    channel.resume();
    channel.write(encodeOpening({ nonce: systemRandom.bytes(16), version: WIRE.version, epoch: 1 }));
    channel.write(random.bytes(5000));
    channel.write(Buffer.concat([Buffer.from([WIRE.sync, 1 + (round % 12)]), random.bytes(200)]));
    channel.destroy();
  }
  const session = await connector.connect(port.open(), { epoch: 1, signal });
  await session.ping({ signal });
  assert.equal(agent.running, true);
});

test("an agent whose host has hung up does not spin", { skip: process.platform !== "linux" }, async (context) => {
  const { agent, session } = await ready(context);
  await session[Symbol.asyncDispose]();
  const before = await cpuTicks(agent.pid);
  await systemClock.sleep(500, { signal });
  assert.ok((await cpuTicks(agent.pid)) - before <= 2);
});

const cpuTicks = async (pid: number): Promise<number> => {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
};
