import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import type { PortView, VmView } from "@kiln/protocol";
import { dialHost, endOf, isFree, talk, UdpClient } from "../../packages/daemon/src/forward/testing/clients.ts";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:busybox-static,perl-base";
const MIB = 2 ** 20;
/** A page on 80, what comes goes back on 7 and, as datagrams, on 5353. The backlog is for all who come at once: with busybox's own nc, which has none, Linux resets them. */
const SERVERS = `
busybox mkdir -p /www && echo hello > /www/index.html
perl -MSocket -e 'socket(S,PF_INET,SOCK_DGRAM,0); bind(S,sockaddr_in(5353,INADDR_ANY)); while(defined($a=recv(S,$m,65535,0))){send(S,$m,0,$a)}' &
perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0); bind(S,sockaddr_in(7,INADDR_ANY)); listen(S,128); $SIG{CHLD}="IGNORE"; while(1){ accept(C,S) or next; open(STDIN,"<&C"), open(STDOUT,">&C"), exec("busybox","cat") unless fork; close C }' &
exec busybox httpd -f -p 80 -h /www`;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const page = (port: number): Promise<string> => fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.text());

describe("ports of a VM without a network are published, and stay so", () => {
  let home: TestHome;
  const ports = (): Promise<PortView[]> => home.json<PortView[]>("port", "ls", "web");
  const hostPort = async (guestPort: number): Promise<number> =>
    (await ports()).find((port) => port.guestPort === guestPort)?.hostPort ?? assert.fail(`${guestPort} is not published`);

  before(async () => {
    home = await TestHome.warm({ memory: "512m" });
    await home.ok(
      ...["run", "-d", "--name", "web", "--network", "none", "-p", "80", "-p", "127.0.0.1::5353/udp"],
      ...[IMAGE, "--", "busybox", "sh", "-c", SERVERS],
    );
  });
  after(() => home[Symbol.asyncDispose]());

  test("a page is served through -p as soon as the server listens, and ps and port show where", async () => {
    const port = await hostPort(80);
    await waitUntil(
      () =>
        page(port).then(
          (text) => text === "hello\n",
          () => false,
        ),
      "httpd",
    );
    assert.match(
      await home.ok("ps"),
      new RegExp(`PORTS +NAME\\n.* 127\\.0\\.0\\.1:${port}->80/tcp, 127\\.0\\.0\\.1:\\d+->5353/udp +web\\n`),
    );
    assert.equal(await home.ok("port", "web", "80"), `127.0.0.1:${port}\n`);
    const [vm] = await home.json<VmView[]>("ps");
    assert.deepEqual(vm?.network.ports, await ports());
  });

  test("datagrams come back as they went", async () => {
    const port = await hostPort(5353);
    const answers = async (): Promise<boolean> => {
      using probe = new UdpClient(port);
      return await probe.ask(Uint8Array.of(1), 500).then(
        () => true,
        () => false,
      );
    };
    await waitUntil(answers, "the server of datagrams");
    using client = new UdpClient(port);
    for (const size of [1, 1400, 30_000]) {
      const bytes = randomBytes(size);
      assert.deepEqual(await client.ask(bytes), bytes);
    }
  });

  test("a port is added to the running VM: fifty connections at once carry megabytes both ways, and an exec is not held up", async () => {
    await home.ok("port", "add", "web", "7");
    const port = await hostPort(7);
    const one = async (): Promise<void> => {
      const bytes = randomBytes(MIB / 8);
      assert.equal(sha256(await talk(port, bytes)), sha256(bytes));
    };
    const all = Promise.all(Array.from({ length: 50 }, one));
    assert.equal(await home.ok("exec", "web", "--", "busybox", "echo", "on time"), "on time\n");
    await all;
  });

  test("a second VM that wants the address is refused by the first one's name, and is not made", async () => {
    const port = await hostPort(80);
    const outcome = await home.kiln([
      "run",
      "-d",
      "--name",
      "second",
      "--network",
      "none",
      "-p",
      `${port}:80`,
      IMAGE,
      "--",
      "busybox",
      "true",
    ]);
    assert.equal(outcome.code, 125);
    assert.match(outcome.stderr, new RegExp(`127\\.0\\.0\\.1:${port}/tcp belongs to the VM web`));
    assert.equal((await home.json<VmView[]>("ps", "-a")).length, 1);
  });

  test("I36 listeners are back at their addresses after kill -9 of the daemon and after a restart; open connections are reset", async () => {
    const before = await ports();
    const [web, echo, udp] = [await hostPort(80), await hostPort(7), await hostPort(5353)];
    const client = await dialHost(echo);
    const end = endOf(client);
    await home.killDaemon();
    assert.ok(["ECONNRESET", null].includes(await end));
    await assert.rejects(talk(web, ""), { code: "ECONNREFUSED" });
    await home.ok("daemon", "start");
    assert.equal(await page(web), "hello\n");
    await home.ok("daemon", "restart");
    assert.equal(await page(web), "hello\n");
    using datagrams = new UdpClient(udp);
    assert.equal((await datagrams.ask(Buffer.from("still"))).toString(), "still");
    assert.deepEqual(await ports(), before);
  });

  test("a port that is taken back is free, its connections are reset, and so is everything when the VM goes", async () => {
    const [web, echo] = [await hostPort(80), await hostPort(7)];
    const client = await dialHost(echo);
    client.write("x");
    await new Promise((resolve) => client.once("data", resolve));
    const end = endOf(client);
    await home.ok("port", "rm", "web", "7");
    assert.equal(await end, "ECONNRESET");
    assert.equal(await isFree(echo), true);
    const again = await home.kiln(["port", "rm", "web", "7"]);
    assert.match(again.stderr, /the VM web has not published 7\/tcp/);
    assert.equal(again.code, 1);
    await home.ok("stop", "-t", "1", "web");
    assert.equal(await isFree(web), true);
    await home.ok("start", "web");
    await waitUntil(
      () =>
        page(web).then(
          (text) => text === "hello\n",
          () => false,
        ),
      "httpd",
    );
    await home.ok("rm", "-f", "web");
    assert.equal(await isFree(web), true);
  });
});
