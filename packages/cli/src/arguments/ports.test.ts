import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { portRequest } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import { describePort, hostAddress, parseGuestPort, parsePublish } from "./ports.ts";

const isUsage = (error: unknown): boolean => error instanceof KilnError && error.code === "USAGE" && error.exitCode === 2;

describe("-p is docker's, but that it is this host's alone unless an address is given", () => {
  const table: readonly [string, readonly [ip: string, host: number, guest: number, protocol: string]][] = [
    ["80", ["127.0.0.1", 0, 80, "tcp"]],
    [":80", ["127.0.0.1", 0, 80, "tcp"]],
    ["0:80", ["127.0.0.1", 0, 80, "tcp"]],
    ["8080:80", ["127.0.0.1", 8080, 80, "tcp"]],
    ["8080:80/tcp", ["127.0.0.1", 8080, 80, "tcp"]],
    ["53:5353/udp", ["127.0.0.1", 53, 5353, "udp"]],
    ["0.0.0.0:8080:80", ["0.0.0.0", 8080, 80, "tcp"]],
    ["192.0.2.7::80", ["192.0.2.7", 0, 80, "tcp"]],
    ["[::1]:8080:80", ["::1", 8080, 80, "tcp"]],
    ["[::]::53/udp", ["::", 0, 53, "udp"]],
  ];
  for (const [text, [hostIp, hostPort, guestPort, protocol]] of table) {
    test(text, () => assert.deepEqual(portRequest.parse(parsePublish(text)), { hostIp, hostPort, guestPort, protocol }));
  }
  for (const text of [
    "",
    ":",
    "80/sctp",
    "80/tcp/udp",
    "0",
    "65536",
    "80:",
    "a:80",
    "1:2:3:4",
    "::1:80:80",
    "[::1]",
    "[::1]:80",
    "[::1:80",
    "-1:80",
    "8000-8010:80",
  ]) {
    test(`"${text}" is refused`, () => assert.throws(() => parsePublish(text), isUsage));
  }
});

test("an address that is none is refused by the schema, whichever side asks", () => {
  assert.throws(() => portRequest.parse(parsePublish("localhost:8080:80")), /an IPv4 or IPv6 address/);
  assert.throws(() => portRequest.parse(parsePublish("300.0.0.1:8080:80")), /an IPv4 or IPv6 address/);
});

test("a port of the guest is a number and, for UDP, its protocol", () => {
  assert.deepEqual(parseGuestPort("80"), { guestPort: 80, protocol: "tcp" });
  assert.deepEqual(parseGuestPort("53/udp"), { guestPort: 53, protocol: "udp" });
  for (const text of ["", "x", "0", "80/x", "8080:80"]) assert.throws(() => parseGuestPort(text), isUsage);
});

test("ports are shown as docker does", () => {
  const port = { hostIp: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" };
  assert.equal(describePort(port), "127.0.0.1:8080->80/tcp");
  assert.equal(describePort({ ...port, hostIp: "::", protocol: "udp" }), "[::]:8080->80/udp");
  assert.equal(hostAddress({ ...port, hostPort: 0 }), "127.0.0.1:");
});
