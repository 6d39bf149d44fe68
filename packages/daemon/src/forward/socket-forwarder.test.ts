import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { systemClock, systemRandom } from "@kiln/std";
import { createAgentConnector } from "../agent/connector.ts";
import { setupOf } from "../agent/test-guest.ts";
import type { AgentSession, GuestConnection } from "../vms/agent.port.ts";
import type { DialGuest, OpenPort } from "../vms/forward.port.ts";
import { FakeGuest } from "../vmm/fake/guest.ts";
import { ECHO_PORT } from "../vmm/fake/guest-ports.ts";
import { FORWARD_LIMITS } from "./limits.ts";
import { SocketForwarder } from "./socket-forwarder.ts";
import { dialHost, endOf, holdPort, isFree, noIpv6, talk, UdpClient } from "./testing/clients.ts";
import { UdpPort } from "./udp-port.ts";

const signal = AbortSignal.timeout(60_000);
const forwarder = new SocketForwarder({ clock: systemClock });
const MIB = 2 ** 20;
const LOCAL = { hostIp: "127.0.0.1", hostPort: 0 } as const;
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const guestSession = async (context: TestContext): Promise<AgentSession> => {
  const guest = new FakeGuest({ clock: systemClock, onPowerOff: () => undefined });
  const connector = createAgentConnector({ clock: systemClock, random: systemRandom });
  const session = await connector.connect(guest.openChannel(), { epoch: 1, signal });
  await session.setup(setupOf(), { signal });
  context.after(() => session[Symbol.asyncDispose]());
  return session;
};

const open = async (context: TestContext, protocol: "tcp" | "udp", dial: DialGuest): Promise<OpenPort> => {
  const port = await forwarder.open({ ...LOCAL, protocol }, dial);
  context.after(() => port[Symbol.asyncDispose]());
  return port;
};

const openEcho = async (context: TestContext, protocol: "tcp" | "udp" = "tcp"): Promise<OpenPort> => {
  const session = await guestSession(context);
  return open(context, protocol, async () => session.dial({ protocol, port: ECHO_PORT }));
};

test("many clients at once send megabytes through a port, and each gets its own back", async (context) => {
  const { hostPort } = await openEcho(context);
  const one = async (): Promise<void> => {
    const bytes = randomBytes(MIB / 2);
    assert.equal(sha256(await talk(hostPort, bytes)), sha256(bytes));
  };
  await Promise.all(Array.from({ length: 60 }, one));
});

test("a client that does not read holds up no other", async (context) => {
  const { hostPort } = await openEcho(context);
  const deaf = await dialHost(hostPort);
  deaf.pause();
  deaf.write(Buffer.alloc(32 * MIB));
  assert.equal((await talk(hostPort, "hello")).toString(), "hello");
  deaf.destroy();
});

test("where the guest's port refuses, the client is reset; so is one that is open when the port closes", async (context) => {
  const session = await guestSession(context);
  const refusing = await open(context, "tcp", async () => session.dial({ protocol: "tcp", port: 80 }));
  await assert.rejects(talk(refusing.hostPort, "hello"), { code: "ECONNRESET" });
  const port = await forwarder.open({ ...LOCAL, protocol: "tcp" }, async () => session.dial({ protocol: "tcp", port: ECHO_PORT }));
  const client = await dialHost(port.hostPort);
  client.write("x");
  await once(client, "data");
  const end = endOf(client);
  await port[Symbol.asyncDispose]();
  assert.equal(await end, "ECONNRESET");
  assert.equal(await isFree(port.hostPort), true);
});

test("a client whose guest is not there yet waits, and one that resets meanwhile is forgotten", async (context) => {
  const session = await guestSession(context);
  const ready = Promise.withResolvers<GuestConnection>();
  const aborted = Promise.withResolvers<void>();
  const { hostPort } = await open(context, "tcp", async (options) => {
    options.signal.addEventListener("abort", () => aborted.resolve());
    return Promise.race([ready.promise, aborted.promise.then(() => assert.fail("gone"))]);
  });
  const patient = talk(hostPort, "later");
  await systemClock.sleep(50, { signal });
  ready.resolve(session.dial({ protocol: "tcp", port: ECHO_PORT }));
  assert.equal((await patient).toString(), "later");
});

test("an address that is taken, not this host's, or not allowed is refused with its reason", async () => {
  await using held = await holdPort();
  const dial = async (): Promise<GuestConnection> => assert.fail("nobody connects");
  await assert.rejects(forwarder.open({ hostIp: "127.0.0.1", hostPort: held.port, protocol: "tcp" }, dial), {
    code: "PORT_IN_USE",
    message: `127.0.0.1:${held.port}/tcp is held by another process`,
  });
  await assert.rejects(forwarder.open({ hostIp: "192.0.2.1", hostPort: 0, protocol: "tcp" }, dial), { code: "PORT_UNAVAILABLE" });
  await assert.rejects(forwarder.open({ hostIp: "192.0.2.1", hostPort: 0, protocol: "udp" }, dial), { code: "PORT_UNAVAILABLE" });
  const udp = await forwarder.open({ ...LOCAL, protocol: "udp" }, dial);
  await assert.rejects(forwarder.open({ hostIp: "127.0.0.1", hostPort: udp.hostPort, protocol: "udp" }, dial), { code: "PORT_IN_USE" });
  await udp[Symbol.asyncDispose]();
});

test("IPv6 addresses are listened at as well", { skip: noIpv6() }, async (context) => {
  const session = await guestSession(context);
  const port = await forwarder.open({ hostIp: "::1", hostPort: 0, protocol: "tcp" }, async () =>
    session.dial({ protocol: "tcp", port: ECHO_PORT }),
  );
  context.after(() => port[Symbol.asyncDispose]());
  assert.equal((await talk(port.hostPort, "six", "::1")).toString(), "six");
});

test("datagrams keep their boundaries, and answers find their own client among many", async (context) => {
  const { hostPort } = await openEcho(context, "udp");
  const one = async (_: unknown, index: number): Promise<void> => {
    using client = new UdpClient(hostPort);
    for (const size of [0, 1, 1400]) {
      const bytes = Buffer.alloc(size, index + 1);
      assert.deepEqual(await client.ask(bytes), bytes);
    }
  };
  await Promise.all(Array.from({ length: 20 }, one));
  using client = new UdpClient(hostPort);
  const largest = randomBytes(65_507); // of one at a time: what the kernel has no room for is lost, as on any network
  assert.deepEqual(await client.ask(largest), largest);
});

test("a silent peer is forgotten, a busy one is not, and the longest silent gives way to a new one", async (context) => {
  const session = await guestSession(context);
  let dialed = 0;
  let open_ = 0;
  const dial: DialGuest = async (options) => {
    dialed += 1;
    open_ += 1;
    options.signal.addEventListener("abort", () => (open_ -= 1));
    return session.dial({ protocol: "udp", port: ECHO_PORT });
  };
  const port = await UdpPort.open({ ...LOCAL, protocol: "udp" }, dial, { clock: systemClock, peerIdleMs: 300, sweepMs: 20 });
  context.after(() => port[Symbol.asyncDispose]());
  using busy = new UdpClient(port.hostPort);
  using silent = new UdpClient(port.hostPort);
  await silent.ask(Buffer.from("once"));
  for (let round = 0; round < 10; round += 1) {
    await busy.ask(Buffer.from("again"));
    await systemClock.sleep(60, { signal });
  }
  assert.deepEqual([dialed, open_], [2, 1]);
  await silent.ask(Buffer.from("back"));
  assert.equal(dialed, 3);
  const crowd = Array.from({ length: FORWARD_LIMITS.peers + 5 }, () => new UdpClient(port.hostPort));
  for (const client of crowd) await client.ask(Buffer.from("me"));
  assert.ok(open_ <= FORWARD_LIMITS.peers, `${open_} peers`);
  for (const client of crowd) client[Symbol.dispose]();
});
