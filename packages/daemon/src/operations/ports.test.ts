import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { type OperationView, portRequest, type PublishPort, removePort, type VmView } from "@kiln/protocol";
import { dialHost, endOf, holdPort, isFree, talk, UdpClient } from "../forward/testing/clients.ts";
import { ECHO_PORT } from "../vmm/fake/guest-ports.ts";
import type { Core } from "./core.ts";
import { addPort, removePorts } from "./ports.ts";
import { beginRemoveVm } from "./remove-vm.ts";
import { beginStartVm } from "./start-vm.ts";
import { beginStopVm } from "./stop-vm.ts";
import { createFakeCore, type FakeCore } from "./testing/fake-core.ts";

const signal = AbortSignal.timeout(60_000);
const NOBODY = { idempotencyKey: null, caller: "" };
const echo = { guestPort: ECHO_PORT };

const portsOf = (fake: FakeCore, name: string): VmView["network"]["ports"] => fake.vm(name)?.network.ports ?? [];
const hostPortOf = (fake: FakeCore, name: string): number => portsOf(fake, name)[0]?.hostPort ?? 0;
const add = (core: Core, name: string, port: PublishPort) => addPort(core, name, { request: portRequest.parse(port), signal });
const remove = (core: Core, name: string, which: Readonly<Record<string, unknown>>) =>
  removePorts(core, name, { which: removePort.parse(which), signal });

const succeeded = async (fake: FakeCore, operation: OperationView): Promise<void> => {
  const ended = await fake.ended(operation);
  assert.deepEqual([ended.state, ended.error], ["succeeded", null]);
};
const stop = (fake: FakeCore, core: Core, name: string) => succeeded(fake, beginStopVm(core, name, { timeoutMs: 1000, ...NOBODY }));
const start = (fake: FakeCore, core: Core, name: string) => succeeded(fake, beginStartVm(core, name, NOBODY));

/** A port that is free at this moment. */
const freePort = async (): Promise<number> => {
  await using held = await holdPort();
  return held.port;
};

test("a published port leads into the guest while the VM lives, and is closed while it does not", async () => {
  await using fake = await createFakeCore();
  const hostPort = await freePort();
  await succeeded(fake, fake.create({ name: "web", start: true, ports: [{ ...echo, hostPort }] }));
  assert.deepEqual(portsOf(fake, "web"), [{ hostIp: "127.0.0.1", hostPort, guestPort: ECHO_PORT, protocol: "tcp" }]);
  assert.equal((await talk(hostPort, "hello")).toString(), "hello");
  await stop(fake, fake.core, "web");
  await assert.rejects(talk(hostPort, "hello"), { code: "ECONNREFUSED" });
  await start(fake, fake.core, "web");
  assert.equal((await talk(hostPort, "again")).toString(), "again");
  await succeeded(fake, beginRemoveVm(fake.core, "web", { force: true, ...NOBODY }));
  assert.equal(await isFree(hostPort), true);
});

test("without a host port the host chooses one, which the VM keeps over a stop and loses to whoever takes it meanwhile", async () => {
  await using fake = await createFakeCore();
  await succeeded(fake, fake.create({ name: "web", ports: [echo] }));
  assert.equal(hostPortOf(fake, "web"), 0);
  await start(fake, fake.core, "web");
  const chosen = hostPortOf(fake, "web");
  assert.equal((await talk(chosen, "hello")).toString(), "hello");
  await stop(fake, fake.core, "web");
  await start(fake, fake.core, "web");
  assert.equal(hostPortOf(fake, "web"), chosen);
  await stop(fake, fake.core, "web");
  const { createServer } = await import("node:net");
  const other = createServer().listen(chosen, "127.0.0.1");
  await once(other, "listening");
  await start(fake, fake.core, "web");
  const another = hostPortOf(fake, "web");
  assert.notEqual(another, chosen);
  assert.equal((await talk(another, "hello")).toString(), "hello");
  await new Promise((resolve) => other.close(resolve));
});

test("I17 of a hundred concurrent creates that want one address exactly one gets it, and the others leave nothing", async () => {
  await using fake = await createFakeCore();
  const hostPort = await freePort();
  const names = Array.from({ length: 100 }, (_, index) => `vm-${index}`);
  const ended = await Promise.all(names.map((name) => fake.ended(fake.create({ name, start: true, ports: [{ ...echo, hostPort }] }))));
  const won = ended.filter(({ state }) => state === "succeeded");
  assert.equal(won.length, 1);
  const winner = fake.core.vms.list();
  assert.equal(winner.length, 1);
  for (const { state, error } of ended) {
    if (state === "succeeded") continue;
    assert.equal(error?.code, "PORT_IN_USE");
    assert.match(error?.detail ?? "", new RegExp(`belongs to the VM ${winner[0]?.name}$`));
  }
  assert.equal((await talk(hostPort, "mine")).toString(), "mine");
});

test("an address at every interface and the same port at one of them are one claim; UDP and other families are others", async () => {
  await using fake = await createFakeCore();
  const hostPort = await freePort();
  await succeeded(fake, fake.create({ name: "one", ports: [{ ...echo, hostIp: "0.0.0.0", hostPort }] }));
  await succeeded(fake, fake.create({ name: "udp", ports: [{ ...echo, hostPort, protocol: "udp" }] }));
  await succeeded(fake, fake.create({ name: "six", ports: [{ ...echo, hostIp: "::1", hostPort }] }));
  const refused = await fake.ended(fake.create({ name: "two", ports: [{ ...echo, hostPort }] }));
  assert.equal(refused.error?.code, "PORT_IN_USE");
  await assert.rejects(add(fake.core, "udp", { ...echo, hostPort }), { code: "PORT_IN_USE", object: "one" });
  await assert.rejects(add(fake.core, "one", { guestPort: 80, hostPort }), { code: "PORT_IN_USE", message: /two ports of one/ });
  await remove(fake.core, "one", echo);
  await add(fake.core, "udp", { ...echo, hostPort });
});

test("I19 where another process has one of the addresses the start fails with that, and leaves no process and no listener", async () => {
  await using fake = await createFakeCore();
  const free = await freePort();
  const held = await holdPort();
  const ports = [
    { ...echo, hostPort: free },
    { ...echo, hostPort: held.port },
  ];
  const ended = await fake.ended(fake.create({ name: "web", start: true, ports }));
  assert.equal(ended.error?.code, "PORT_IN_USE");
  assert.match(ended.error?.detail ?? "", /held by another process/);
  assert.deepEqual([fake.vm("web")?.state, fake.vm("web")?.error?.code], ["failed", "PORT_IN_USE"]);
  assert.equal(fake.host.boots, 0);
  assert.equal(await isFree(free), true);
  await held[Symbol.asyncDispose]();
  await start(fake, fake.core, "web");
  assert.equal((await talk(held.port, "now")).toString(), "now");
});

test("I19 a boot that fails gives its addresses back", async () => {
  await using fake = await createFakeCore({ failSetupAt: "overlay" });
  const hostPort = await freePort();
  const ended = await fake.ended(fake.create({ name: "web", start: true, ports: [{ ...echo, hostPort }] }));
  assert.equal(ended.error?.code, "GUEST_SETUP_FAILED");
  assert.equal(await isFree(hostPort), true);
});

test("a port is added to a VM that runs and taken away again, and its connections with it", async () => {
  await using fake = await createFakeCore();
  await succeeded(fake, fake.create({ name: "web", start: true }));
  const { hostPort } = await add(fake.core, "web", echo);
  const client = await dialHost(hostPort);
  client.write("x");
  await once(client, "data");
  const end = endOf(client);
  await remove(fake.core, "web", echo);
  assert.equal(await end, "ECONNRESET");
  assert.equal(await isFree(hostPort), true);
  assert.deepEqual(portsOf(fake, "web"), []);
  await assert.rejects(remove(fake.core, "web", echo), { code: "PORT_NOT_FOUND", object: "web" });
});

test("a port that is added twice is one, to a VM that is stopped it is only written down", async () => {
  await using fake = await createFakeCore();
  await succeeded(fake, fake.create({ name: "web" }));
  const hostPort = await freePort();
  await add(fake.core, "web", { ...echo, hostPort });
  assert.equal(await isFree(hostPort), true);
  await start(fake, fake.core, "web");
  assert.equal((await talk(hostPort, "hello")).toString(), "hello");
  const first = await add(fake.core, "web", echo);
  assert.deepEqual(await add(fake.core, "web", echo), first);
  assert.equal(portsOf(fake, "web").length, 2);
});

test("what the host chose for a VM that is stopped may be asked for by another; the first then gets a new one", async () => {
  await using fake = await createFakeCore();
  await succeeded(fake, fake.create({ name: "one", start: true, ports: [echo] }));
  const hostPort = hostPortOf(fake, "one");
  assert.equal((await fake.ended(fake.create({ name: "early", ports: [{ ...echo, hostPort }] }))).error?.code, "PORT_IN_USE");
  await stop(fake, fake.core, "one");
  await succeeded(fake, fake.create({ name: "two", ports: [{ ...echo, hostPort }] }));
  await start(fake, fake.core, "one");
  assert.notEqual(hostPortOf(fake, "one"), hostPort);
  await start(fake, fake.core, "two");
  assert.equal((await talk(hostPort, "two")).toString(), "two");
});

test("of two VMs that add one address at once one gets it", async () => {
  await using fake = await createFakeCore();
  const hostPort = await freePort();
  for (const name of ["one", "two"]) await succeeded(fake, fake.create({ name, start: true }));
  const results = await Promise.allSettled(["one", "two"].map((name) => add(fake.core, name, { ...echo, hostPort })));
  assert.deepEqual(results.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
  assert.equal(portsOf(fake, "one").length + portsOf(fake, "two").length, 1);
  assert.equal((await talk(hostPort, "mine")).toString(), "mine");
});

test("who connects while the VM starts waits for it", async () => {
  await using fake = await createFakeCore({ bootMs: 300 });
  const hostPort = await freePort();
  const starting = fake.create({ name: "web", start: true, ports: [{ ...echo, hostPort }] });
  while (await isFree(hostPort)) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.notEqual(fake.vm("web")?.state, "running");
  assert.equal((await talk(hostPort, "early")).toString(), "early");
  await succeeded(fake, starting);
});

test("I36 the next daemon listens at the same addresses, whoever chose them", async () => {
  await using fake = await createFakeCore();
  const hostPort = await freePort();
  await succeeded(
    fake,
    fake.create({
      name: "web",
      start: true,
      ports: [
        { ...echo, hostPort },
        { ...echo, protocol: "udp" },
      ],
    }),
  );
  const before = portsOf(fake, "web");
  const client = await dialHost(hostPort);
  client.write("x");
  await once(client, "data");
  const end = endOf(client);
  const next = await fake.handOver();
  assert.equal(await end, "ECONNRESET");
  assert.deepEqual(portsOf(fake, "web"), before);
  assert.equal((await talk(hostPort, "again")).toString(), "again");
  using udp = new UdpClient(before[1]?.hostPort ?? 0);
  assert.equal((await udp.ask(Buffer.from("datagram"))).toString(), "datagram");
  await stop(fake, next, "web");
  assert.equal(await isFree(hostPort), true);
});
