/** What reaches a VM, and what a VM reaches. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import type { PortView, VmView } from "@kiln/protocol";
import { isFree } from "../../../packages/daemon/src/forward/testing/clients.ts";
import { waitUntil } from "../../e2e/home.ts";
import { guest, shell, SLEEP } from "../guests.ts";
import { isolated, type Scenario, type SharedPlace } from "../scenario.ts";

const SERVER = shell("busybox mkdir -p /www; echo hello > /www/index.html; cd /www; busybox httpd -p 81; exec busybox httpd -f -p 80");

const page = async (port: number, signal: AbortSignal): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`, { signal })).text();

/** As soon as the guest's server listens; until then connections are refused or reset. */
const untilServed = (port: number, signal: AbortSignal): Promise<void> =>
  waitUntil(
    () =>
      page(port, signal).then(
        (text) => text === "hello\n",
        (error: unknown) => {
          if (error instanceof TypeError && !signal.aborted) return false;
          throw error;
        },
      ),
    "httpd",
  );

const portsOf = ({ kiln }: SharedPlace, name: string): Promise<PortView[]> => kiln.json<PortView[]>("port", "ls", name);

/** A server of this host at all its addresses, and how many came. */
const listenOnHost = async ({ use }: SharedPlace): Promise<{ port: number; hits: () => number }> => {
  let hits = 0;
  const server = createServer((socket) => {
    hits += 1;
    socket.on("error", () => socket.destroy());
    socket.resume(); // an end that nobody reads is none
    socket.end("HTTP/1.0 200 OK\r\n\r\nhost\n");
  });
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  use({ [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())) });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return { port: address.port, hits: () => hits };
};

const hostAddresses = (): string[] =>
  Object.values(networkInterfaces()).flatMap((all) => (all ?? []).filter(({ family }) => family === "IPv4").map(({ address }) => address));

export const NETWORKS: readonly Scenario[] = [
  isolated(
    "ports-publish",
    "-p serves the guest's port at the host's; ps and port show it; who wants it too is told whose it is",
    async (place) => {
      const { kiln, vm, signal } = place;
      const name = vm("web");
      await kiln.ok("run", "-d", "--name", name, ...guest("--network", "none", "-p", "80"), ...SERVER);
      const [port] = await portsOf(place, name);
      assert.ok(port !== undefined && port.guestPort === 80 && port.hostIp === "127.0.0.1");
      await untilServed(port.hostPort, signal);
      assert.equal(await kiln.ok("port", name, "80"), `127.0.0.1:${port.hostPort}\n`);
      assert.deepEqual((await kiln.json<VmView>("inspect", name)).network.ports, [port]);
      const second = ["run", "-d", "--name", vm("second"), ...guest("-p", `${port.hostPort}:80`), "busybox", "true"];
      const refused = await kiln.problem({ exit: 125, code: "PORT_IN_USE" }, ...second);
      assert.ok(refused.detail.includes(name), refused.detail);
      await kiln.ok("stop", "-t", "1", name);
      assert.equal(await isFree(port.hostPort), true);
    },
  ),

  isolated("ports-live", "ports are added to a VM that runs and taken back, and its other ports do not notice", async (place) => {
    const { kiln, vm, signal } = place;
    const name = vm("live");
    await kiln.ok("run", "-d", "--name", name, ...guest("--network", "none"), ...SERVER);
    assert.deepEqual(await portsOf(place, name), []);
    await kiln.ok("port", "add", name, "80", "81");
    const ports = await portsOf(place, name);
    const [first, second] = [80, 81].map((wanted) => ports.find(({ guestPort }) => guestPort === wanted)?.hostPort);
    assert.ok(first !== undefined && second !== undefined);
    for (const port of [first, second]) await untilServed(port, signal);
    await kiln.ok("port", "rm", name, `${first}:80`);
    assert.equal(await isFree(first), true);
    assert.equal(await page(second, signal), "hello\n");
    await kiln.problem({ exit: 1, code: "PORT_NOT_FOUND" }, "port", "rm", name, "82");
  }),

  isolated("network-none", "--network none: no NIC but the loopback, and no address anywhere", async ({ kiln, vm }) => {
    const name = vm("alone");
    await kiln.ok("run", "-d", "--name", name, ...guest("--network", "none"), ...SLEEP);
    assert.equal(await kiln.ok("exec", name, "busybox", "ls", "/sys/class/net"), "lo\n");
    const { network } = await kiln.json<VmView>("inspect", name);
    assert.deepEqual([network.mode, network.mac, network.address], ["none", null, null]);
  }),

  isolated(
    "network-user",
    "I17 a VM has a MAC of its own; nothing of the host answers it at any address, by name or by number",
    async (place) => {
      const { kiln, vm } = place;
      const names = [vm("one"), vm("two")];
      for (const name of names) await kiln.ok("run", "-d", "--name", name, ...guest(), ...SLEEP);
      const views = await Promise.all(names.map((name) => kiln.json<VmView>("inspect", name)));
      assert.equal(new Set(views.map(({ network }) => network.mac)).size, 2);
      const [name = ""] = names;
      assert.equal((await kiln.ok("exec", name, "busybox", "cat", "/sys/class/net/eth0/address")).trim(), views[0]?.network.mac);
      const { port, hits } = await listenOnHost(place);
      assert.equal((await (await fetch(`http://127.0.0.1:${port}/`)).text()).trim(), "host");
      const addresses = new Set(["127.0.0.1", "10.0.2.2", "10.0.2.3", "169.254.169.254", ...hostAddresses()]);
      const asks = [...addresses].map(
        (address) => `(busybox timeout 2 busybox wget -q -O - http://${address}:${port}/ && echo reached ${address}) &`,
      );
      const answer = await kiln.run(["exec", name, ...shell(`${asks.join(" ")} wait`)]);
      assert.deepEqual([answer.stdout, hits()], ["", 1]);
      // what names lead to is asked of the resolver's address in the guest, which is none of the host's
      const resolver = await kiln.ok("exec", name, "busybox", "cat", "/etc/resolv.conf");
      for (const address of hostAddresses()) assert.ok(!resolver.includes(`nameserver ${address}\n`), resolver);
      const dns = await kiln.run(["exec", name, ...shell("busybox timeout 2 busybox nslookup localhost 127.0.0.1")]);
      assert.notEqual(dns.code, 0);
    },
  ),
];
