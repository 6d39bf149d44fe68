import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { VmView } from "@kiln/protocol";
import { ADDRESSES, type Listener, NetworkWorld } from "../fixtures/network-world.ts";
import { TestHome, waitUntil } from "./home.ts";

const IMAGE = "deb:python3-minimal,busybox-static";
const PORT = 7000;

/** Each argument is PROTOCOL:ADDRESS:PORT; for each a line of what came back. Raw ones are frames of their own, not the guest kernel's. */
const PROBE = `
import itertools, socket, struct, sys, threading
ports = itertools.count(4242)
def tcp(a, p):
    s = socket.create_connection((a, p), 2); s.settimeout(2); return s.recv(100)
def udp(a, p):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); s.sendto(b"x", (a, p)); return s.recv(100)
def checksum(b):
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b)); n = (n & 0xffff) + (n >> 16); return ~(n + (n >> 16)) & 0xffff
def raw(a, p, source="10.0.2.15", protocol=17):
    # to the gateway's MAC, as it answers ARP
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0x800)); s.settimeout(2)
    src, dst = socket.inet_aton(source), socket.inet_aton(a)
    if protocol == 17: body = struct.pack("!HHHH", next(ports), p, 9, 0) + b"x"
    else:
        body = struct.pack("!HHIIBBHHH", next(ports), p, 1, 0, 0x50, 2, 65535, 0, 0)
        body = body[:16] + struct.pack("!H", checksum(src + dst + struct.pack("!HH", 6, 20) + body)) + body[18:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, src, dst)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
    s.send(bytes.fromhex("52550a000202") + own + b"\\x08\\0" + head + body)
    while True:
        got = s.recv(2000)
        if got[26:30] == dst and got[23] == protocol and (protocol == 17 or got[47] & 0x12 == 0x12): return b"raw answer"
kinds = {"tcp": tcp, "udp": udp, "raw": raw, "rawsyn": lambda a, p: raw(a, p, protocol=6), "spoof": lambda a, p: raw(a, p, source=a)}
answers = {}
def ask(word):
    kind, a, p = word.split(":")
    try: answers[word] = kinds[kind](a, int(p)).decode()
    except OSError: answers[word] = "closed"
threads = [threading.Thread(target=ask, args=(word,)) for word in sys.argv[1:]]
for t in threads: t.start()
for t in threads: t.join()
for word in sys.argv[1:]: print(word, answers.get(word))
`;

interface Egress {
  readonly holder: { readonly leader: { readonly pid: number }; readonly member: { readonly pid: number } };
  readonly uplink: { readonly pid: number };
}

const skip = process.getuid?.() === 0 ? false : "needs root for network namespaces";

describe("a VM's network", { skip }, () => {
  let place = "";
  let world: NetworkWorld;
  let home: TestHome;
  let servers: Readonly<Record<"far" | "metadata" | "all" | "loopback" | "dns", Listener>>;

  const inHome = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await home.kiln(args, { wrapper: world.onHost });
    assert.equal(code, 0, `kiln ${args.join(" ")}: ${stderr}`);
    return stdout;
  };
  const probe = async (vm: string, ...targets: string[]): Promise<readonly string[]> =>
    (await inHome("exec", vm, "python3", "-c", PROBE, ...targets)).trim().split("\n");
  const hostHits = (): readonly string[] => [...servers.all.hits, ...servers.loopback.hits, ...servers.metadata.hits];
  const egress = async (): Promise<Egress> => JSON.parse(await readFile(join(home.path, "network", "egress.json"), "utf8")) as Egress;

  before(async () => {
    place = await mkdtemp(join(tmpdir(), "kiln-net-"));
    home = await TestHome.warm({ memory: "512m" });
    // it comes through the real host's apt
    await home.ok("pull", IMAGE);
    await home.ok("daemon", "stop");
    world = await NetworkWorld.create(place);
    const at = (address: string, port = PORT) => ({ address, port });
    servers = {
      far: await world.listen("far", world.inWorld, at(ADDRESSES.far)),
      metadata: await world.listen("metadata", world.inWorld, at(ADDRESSES.metadata, 80)),
      all: await world.listen("all", world.onHost, at("0.0.0.0")),
      loopback: await world.listen("loopback", world.onHost, at("127.0.0.1", PORT + 1)),
      dns: await world.listen("dns", world.onHost, at(ADDRESSES.stub, 53)),
    };
    await inHome("daemon", "start");
    for (const name of ["one", "two"]) await inHome("run", "-d", "--idle", "--name", name, IMAGE);
  });

  after(async () => {
    await home[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
    await rm(place, { recursive: true, force: true });
  });

  test("leads out by address and by name, through the resolver on the host's loopback", async () => {
    assert.deepEqual(await probe("one", `tcp:${ADDRESSES.far}:${PORT}`, `udp:${ADDRESSES.far}:${PORT}`, `raw:${ADDRESSES.far}:${PORT}`), [
      `tcp:${ADDRESSES.far}:${PORT} far`,
      `udp:${ADDRESSES.far}:${PORT} far:x`,
      `raw:${ADDRESSES.far}:${PORT} raw answer`,
    ]);
    const resolve = "import socket; print(socket.gethostbyname('somewhere.example.test'))";
    assert.equal((await inHome("exec", "one", "python3", "-c", resolve)).trim(), ADDRESSES.far);
    assert.ok(servers.dns.hits.length > 0);
    assert.match(await inHome("exec", "one", "busybox", "cat", "/etc/resolv.conf"), /^nameserver 192\.88\.99\.3\nsearch example\.test\n$/);
  });

  test("I17 gives each VM a MAC of its own, which its record and its guest agree on", async () => {
    const views = JSON.parse(await inHome("inspect", "one", "two", "--json")) as VmView[];
    const macs = views.map(({ network }) => network.mac);
    assert.equal(new Set(macs).size, 2);
    for (const { name, network } of views) {
      assert.match(network.mac ?? "", /^02(:[0-9a-f]{2}){5}$/);
      assert.deepEqual([network.mode, network.address], ["user", "10.0.2.15"]);
      assert.equal((await inHome("exec", name, "busybox", "cat", "/sys/class/net/eth0/address")).trim(), network.mac);
    }
  });

  test("the host answers itself at every address that is closed to guests", async () => {
    const script = PROBE.replaceAll("eth0", "kilnh0");
    const targets = [
      `tcp:${ADDRESSES.host}:${PORT}`,
      `tcp:${ADDRESSES.bridge}:${PORT}`,
      `udp:127.0.0.1:${PORT + 1}`,
      `tcp:${ADDRESSES.metadata}:80`,
    ];
    const answers = (await world.host("python3", "-c", script, ...targets)).trim().split("\n");
    assert.deepEqual(
      answers.map((line) => line.split(" ")[1]),
      ["all", "all", "loopback:x", "metadata"],
    );
  });

  test("leads nowhere on the host: no loopback, no address of its own, no metadata, no gateway, with sockets or with frames", async () => {
    const seen = hostHits().length;
    // a guest whose root sends 127.0.0.1 out of its NIC
    await inHome(
      "exec",
      "one",
      "busybox",
      "sh",
      "-ec",
      `
      echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; busybox ip addr del 127.0.0.1/8 dev lo
      busybox ip route add 127.0.0.0/8 via 10.0.2.2; busybox ip route add 169.254.0.0/16 via 10.0.2.2`,
    );
    const addresses = [
      "127.0.0.1",
      "127.0.0.53",
      "10.0.2.2",
      "10.0.2.3",
      ADDRESSES.host,
      ADDRESSES.bridge,
      "192.88.99.1",
      "192.88.99.2",
      "192.88.99.3",
      "0.0.0.0",
    ];
    const targets = [
      ...addresses.flatMap((address) =>
        [PORT, PORT + 1].flatMap((port) => ["tcp", "udp", "raw", "rawsyn"].map((kind) => `${kind}:${address}:${port}`)),
      ),
      ...["tcp", "raw", "rawsyn"].map((kind) => `${kind}:${ADDRESSES.metadata}:80`),
      ...["255.255.255.255", "224.0.0.1", "10.0.2.255", "198.51.100.255", "192.88.99.255"].map((address) => `raw:${address}:${PORT}`),
      ...[ADDRESSES.host, "127.0.0.1"].map((address) => `spoof:${address}:${PORT}`),
    ];
    const answers = await probe("one", ...targets);
    assert.deepEqual(
      answers.filter((line) => !line.endsWith(" closed")),
      [],
    );
    assert.equal(answers.length, targets.length);
    assert.equal(hostHits().length, seen, "nothing of it arrived, answered or not");
  });

  test("a VMM that binds its sockets to the uplink, past the routes, still finds nobody on the host", async () => {
    const seen = hostHits().length;
    const { pid } = (await egress()).holder.member;
    const bound = PROBE.replace(
      "def udp",
      "def uplinked(a, p):\n    s = socket.socket(); s.settimeout(2); s.setsockopt(1, 25, b'uplink'); s.connect((a, p)); return s.recv(100)\ndef udp",
    ).replace('"udp": udp', '"udp": udp, "uplinked": uplinked');
    const targets = ["127.0.0.1", ADDRESSES.host, ADDRESSES.metadata].map(
      (address) => `uplinked:${address}:${address === ADDRESSES.metadata ? 80 : PORT}`,
    );
    const asVmm = [
      "nsenter",
      `--net=/proc/${pid}/ns/net`,
      "setpriv",
      "--reuid=1610612999",
      "--clear-groups",
      "--no-new-privs",
      "--bounding-set=-all",
    ];
    const answers = await world.host(...asVmm, "/usr/bin/python3", "-c", bound, ...targets, `uplinked:${ADDRESSES.far}:${PORT}`);
    assert.deepEqual(answers.trim().split("\n"), [...targets.map((target) => `${target} closed`), `uplinked:${ADDRESSES.far}:${PORT} far`]);
    assert.equal(hostHits().length, seen);
  });

  test("leads to no neighbour", async () => {
    // two listens where its own datagrams came from, in the namespace that both are in
    const wait =
      "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',5555)); s.sendto(b'x',('203.0.113.7',7000)); print(s.recv(99)); s.settimeout(12)\ntry: print('from a neighbour', s.recvfrom(99))\nexcept OSError: print('quiet')";
    const listening = home.start(["exec", "two", "python3", "-uc", wait]);
    const { pid } = (await egress()).holder.member;
    let ports: readonly number[] = [];
    await waitUntil(async () => (ports = await udpPorts(pid)).length > 0, "the neighbour's socket");
    const targets = ports.flatMap((port) =>
      ["192.88.99.2", "192.88.99.255", "224.0.0.1", "127.0.0.1", "10.0.2.2", "10.0.2.255"].flatMap((address) => [
        `raw:${address}:${port}`,
        `rawsyn:${address}:${port}`,
      ]),
    );
    const answers = await probe("one", ...targets.slice(0, 24));
    assert.deepEqual(
      answers.filter((line) => !line.endsWith(" closed")),
      [],
    );
    assert.match((await listening.outcome).stdout, /far:x.*\nquiet\n$/);
  });

  test("of mode none is no NIC, and of mode user-open all that the host has", async () => {
    const list = await inHome("run", "--rm", "--network", "none", IMAGE, "--", "busybox", "ls", "/sys/class/net");
    assert.equal(list.trim(), "lo");
    const open = await inHome(
      "run",
      "--rm",
      "--network",
      "user-open",
      IMAGE,
      "--",
      "python3",
      "-c",
      PROBE,
      `tcp:10.0.2.2:${PORT + 1}`,
      `tcp:${ADDRESSES.far}:${PORT}`,
    );
    assert.deepEqual(open.trim().split("\n"), [`tcp:10.0.2.2:${PORT + 1} loopback`, `tcp:${ADDRESSES.far}:${PORT} far`]);
  });

  test("the VMM, the uplink and the namespace's holder are nobody, without a capability on the host", async () => {
    const { holder, uplink } = await egress();
    const own = await readlink("/proc/self/ns/user");
    const one = JSON.parse(await inHome("inspect", "one", "--json")) as VmView;
    for (const pid of [uplink.pid, holder.member.pid, holder.leader.pid, one.pid ?? 0]) {
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      assert.match(status, /^Uid:\t(16106\d+)\t\1\t\1\t\1$/m);
      assert.match(status, /^NoNewPrivs:\t1$/m);
      if ((await readlink(`/proc/${pid}/ns/user`)) === own) assert.match(status, /^CapEff:\t0+$/m);
    }
  });

  test("an uplink that is killed is there again, for guests that run", async () => {
    const { uplink } = await egress();
    process.kill(uplink.pid, "SIGKILL");
    await waitUntil(async () => (await probe("two", `tcp:${ADDRESSES.far}:${PORT}`))[0]?.endsWith(" far") ?? false, "egress");
    assert.notEqual((await egress()).uplink.pid, uplink.pid);
    assert.deepEqual(await probe("two", `tcp:${ADDRESSES.host}:${PORT}`, `tcp:10.0.2.2:${PORT}`, `raw:127.0.0.1:${PORT}`), [
      `tcp:${ADDRESSES.host}:${PORT} closed`,
      `tcp:10.0.2.2:${PORT} closed`,
      `raw:127.0.0.1:${PORT} closed`,
    ]);
  });

  test("an uplink that runs and leads nowhere, as a daemon leaves it that dies while it makes one, is made anew", async () => {
    const { holder, uplink } = await egress();
    await world.host("nsenter", `--net=/proc/${holder.member.pid}/ns/net`, "ip", "link", "set", "uplink", "down");
    await waitUntil(async () => (await egress()).uplink.pid !== uplink.pid, "another uplink");
    await waitUntil(async () => (await probe("two", `tcp:${ADDRESSES.far}:${PORT}`))[0]?.endsWith(" far") ?? false, "egress");
  });

  test("a holder that is killed gets a successor in the same namespace, which goes on closing", async () => {
    const { holder } = await egress();
    const namespace = await readlink(`/proc/${holder.member.pid}/ns/net`);
    for (const { pid } of [holder.leader, holder.member]) process.kill(pid, "SIGKILL");
    await waitUntil(async () => (await egress()).holder.member.pid !== holder.member.pid, "another holder");
    const { member } = (await egress()).holder;
    assert.equal(await readlink(`/proc/${member.pid}/ns/net`), namespace);
    await waitUntil(async () => (await probe("two", `tcp:${ADDRESSES.far}:${PORT}`))[0]?.endsWith(" far") ?? false, "egress");
  });

  test("I35 I36 kill -9 of the daemon: guests keep their way out, new addresses of the host are closed at once, the next daemon has the same namespace", async () => {
    const before = await egress();
    const seen = hostHits().length;
    await home.killDaemon();
    await world.host("ip", "addr", "add", "198.51.100.77/24", "dev", "kilnh0");
    const namespace = `/proc/${before.holder.member.pid}/ns/net`;
    const closed = async (): Promise<boolean> =>
      (await world.host("nsenter", `--net=${namespace}`, "ip", "route", "show", "table", "10")).includes("198.51.100.77");
    await waitUntil(closed, "the new address");
    await inHome("daemon", "start");
    assert.deepEqual(await egress(), before);
    assert.deepEqual(await probe("two", `tcp:${ADDRESSES.far}:${PORT}`, `tcp:198.51.100.77:${PORT}`), [
      `tcp:${ADDRESSES.far}:${PORT} far`,
      `tcp:198.51.100.77:${PORT} closed`,
    ]);
    assert.equal(hostHits().length, seen);
    const fresh = await inHome("run", "--rm", IMAGE, "--", "python3", "-c", PROBE, `tcp:${ADDRESSES.far}:${PORT}`);
    assert.match(fresh, / far$/m);
    assert.deepEqual(await egress(), before);
  });

  test("I35 nothing is left when the daemon is told to stop and no VM runs", async () => {
    await inHome("rm", "-f", "one", "two");
    await inHome("daemon", "stop");
    assert.deepEqual(await processesOf(home.path), []);
    assert.equal((await readdir(home.path)).includes("network"), false);
  });
});

/** The local ports of the UDP sockets in a namespace. */
const udpPorts = async (pid: number): Promise<readonly number[]> => {
  const lines = (await readFile(`/proc/${pid}/net/udp`, "latin1")).split("\n").slice(1);
  return lines.flatMap((line) => {
    const port = /^\s*\d+: [0-9A-F]{8}:([0-9A-F]{4})/.exec(line)?.[1];
    return port === undefined ? [] : [Number.parseInt(port, 16)];
  });
};

/** Whoever has the home on its command line or in its environment. */
const processesOf = async (path: string): Promise<readonly string[]> => {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const texts = await Promise.all(["cmdline", "environ"].map((name) => readFile(`/proc/${pid}/${name}`, "latin1").catch(() => "")));
    if (texts.some((text) => text.includes(path))) found.push(`${pid} ${texts[0]?.replaceAll("\0", " ")}`);
  }
  return found;
};
