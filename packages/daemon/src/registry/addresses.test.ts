import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type AddressScope, addressScope, isLoopbackName, mayLead } from "./addresses.ts";

suite("where an address leads", () => {
  const cases: Readonly<Record<AddressScope, readonly string[]>> = {
    public: ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "169.253.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
    loopback: [
      "127.0.0.1",
      "127.255.255.254",
      "::1",
      "[::1]",
      "::ffff:127.0.0.1",
      "::ffff:7f00:1",
      "::127.0.0.1",
      "64:ff9b::7f00:1",
      "2002:7f00:1::",
    ],
    private: [
      "10.0.0.1",
      "172.16.0.1",
      "172.31.255.255",
      "192.168.1.1",
      "fd12::1",
      "fc00::1",
      "fec0::1",
      "::ffff:10.1.2.3",
      "64:ff9b::a00:1",
      "2002:c0a8:101::1",
    ],
    carrier: ["100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.3.4"],
    metadata: ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "64:ff9b::a9fe:a9fe"],
    multicast: ["224.0.0.1", "239.255.255.255", "ff02::1"],
    unspecified: ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],
    reserved: ["240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.8", "100::1", "", "example", "1.2.3", "127.1"],
  };
  for (const [scope, addresses] of Object.entries(cases)) {
    test(`${scope}: ${addresses.join(" ")}`, () => {
      for (const address of addresses) assert.equal(addressScope(address), scope, address);
    });
  }

  test("a registry points to public addresses, and to its own neighbourhood, never to metadata", () => {
    const scopes = Object.keys(cases) as AddressScope[];
    const reachable = (from: AddressScope, isListed: boolean): readonly AddressScope[] =>
      scopes.filter((to) => mayLead(from, to, { isListed }));
    assert.deepEqual(reachable("public", false), ["public"]);
    assert.deepEqual(reachable("loopback", false), ["public", "loopback"]);
    assert.deepEqual(reachable("private", false), ["public", "private"]);
    assert.deepEqual(reachable("carrier", false), ["public", "carrier"]);
    for (const from of ["link-local", "metadata", "multicast", "unspecified", "reserved"] as const)
      assert.deepEqual(reachable(from, false), ["public"]);
    assert.deepEqual(reachable("public", true), ["public", "loopback", "private", "carrier", "reserved"]);
  });

  test("names of the loopback are known without asking anybody", () => {
    for (const name of ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"])
      assert.ok(isLoopbackName(name), name);
    for (const name of ["localhost.example", "notlocalhost", "example", "10.0.0.1", "[::2]"]) assert.ok(!isLoopbackName(name), name);
  });
});
