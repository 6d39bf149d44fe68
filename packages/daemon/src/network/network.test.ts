import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeCommands, closeHostCommands, PLAN, uplinkCommands } from "./address-plan.ts";
import { parseDefaultInterface, parseLocalPrefixes } from "./local-routes.ts";
import { guestResolvConf, hostResolvers, isNeverReachable } from "./resolv-conf.ts";
import { pastaArguments } from "./uplink.ts";

const FIB_TRIE = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 172.30.0.0/16 2 0 2
        |-- 172.30.0.0
           /24 host LOCAL
           /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
`;

describe("the host's own addresses", () => {
  test("are what its kernel keeps for itself: single ones and whole ranges, no broadcast and no neighbour", () => {
    assert.deepEqual([...parseLocalPrefixes(FIB_TRIE)], ["172.30.0.0/24", "172.30.0.0/32", "192.0.2.2/32"]);
    assert.deepEqual([...parseLocalPrefixes("")], []);
  });

  test("are closed one by one, so that one that comes later does not open another", () => {
    assert.deepEqual(closeHostCommands(["192.0.2.2/32"]), ["route replace prohibit 192.0.2.2/32 table 10"]);
  });

  test("the default route's interface is found, a route that is down or narrower is none", () => {
    const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    const row = (...columns: readonly string[]): string => {
      const [name, destination, flags, mask] = columns;
      return `${name}\t${destination}\t010200C0\t${flags}\t0\t0\t0\t${mask}\t0\t0\t0\n`;
    };
    assert.equal(parseDefaultInterface(head + row("eth1", "000200C0", "0001", "00FFFFFF")), null);
    assert.equal(parseDefaultInterface(head + row("eth1", "00000000", "0002", "00000000")), null);
    assert.equal(
      parseDefaultInterface(head + row("wg0", "00000000", "0003", "00000080") + row("eth0", "00000000", "0003", "00000000")),
      "eth0",
    );
  });
});

describe("the namespace", () => {
  test("is closed before its table of local addresses is asked, and has no way out until the uplink is up", () => {
    const commands = closeCommands();
    const at = (text: string): number => commands.findIndex((command) => command.startsWith(text));
    assert.ok(at("rule add pref 10 iif lo lookup 10") >= 0 && at("rule del pref 0 lookup local") >= 0);
    for (const prefix of ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "0.0.0.0/8", PLAN.network]) {
      assert.ok(at(`route add prohibit ${prefix} table 10`) >= 0, prefix);
    }
    assert.ok(commands.every((command) => !command.includes("default")));
    const up = uplinkCommands("02:00:00:00:00:09");
    const order = ["ntable change", "neigh replace", "link set uplink up", "route replace default"].map((text) =>
      up.findIndex((command) => command.startsWith(text)),
    );
    assert.deepEqual(
      order,
      order.toSorted((one, other) => one - other),
      "nobody is asked for before only the gateway can answer",
    );
  });

  test("pasta forwards no port either way, and does not take its gateway for the host", () => {
    const member = { bootId: "", pidNamespace: "", pid: 42, startTime: "" };
    const args = pastaArguments({ mac: "02:00:00:00:00:09", member, host: null });
    const valueOf = (option: string): string | undefined => args[args.indexOf(option) + 1];
    assert.deepEqual(["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"].map(valueOf), ["none", "none", "none", "none"]);
    assert.ok(args.includes("--no-map-gw") && args.includes("--ipv4-only"));
    assert.deepEqual([valueOf("--netns"), valueOf("--userns")], ["/proc/42/ns/net", "/proc/42/ns/user"]);
    assert.equal(args.includes("--interface"), false);
  });
});

describe("a guest's resolv.conf", () => {
  const write = (hostText: string): string => guestResolvConf("192.88.99.3", hostText, isNeverReachable);

  test("has the resolver that forwards first, then the host's that a guest can reach, three in all", () => {
    assert.equal(write("nameserver 127.0.0.53\nnameserver 10.0.0.1\n"), "nameserver 192.88.99.3\nnameserver 10.0.0.1\n");
    assert.equal(write("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n").split("\n").length, 4);
    assert.equal(write(""), "nameserver 192.88.99.3\n");
  });

  test("has the host's search list, and no line that only looks like one", () => {
    assert.equal(write("search a.test b.test\noptions edns0\n"), "nameserver 192.88.99.3\nsearch a.test b.test\n");
    assert.equal(write("search a\tb;c ;rm $(x)\n"), "nameserver 192.88.99.3\nsearch a\n");
  });

  test("knows no IPv6, no scope and no nonsense", () => {
    assert.deepEqual(
      hostResolvers(
        "nameserver ::1\nnameserver fe80::1%eth0\nnameserver 1.2.3\nnameserver 256.1.1.1\n#nameserver 1.1.1.1\nnameserver 9.9.9.9 # x\n",
      ),
      ["9.9.9.9"],
    );
  });
});
