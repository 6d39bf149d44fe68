import assert from "node:assert/strict";
import { test } from "node:test";
import { StubDaemon } from "@kiln/sdk/testing";
import { kiln } from "./testing/kiln-process.ts";

const WEB = { hostIp: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" };
const DNS = { hostIp: "::1", hostPort: 5353, guestPort: 53, protocol: "udp" };

const withPorts = async (): Promise<StubDaemon> => {
  const stub = await StubDaemon.listen();
  stub.on("GET", "/v1/vms/web/ports", () => ({ json: [WEB, DNS] }));
  return stub;
};

test("port NAME lists as docker does, port NAME PORT says where, --json prints an array", async () => {
  await using stub = await withPorts();
  const { home } = stub;
  const listed = "80/tcp -> 127.0.0.1:8080\n53/udp -> [::1]:5353\n";
  assert.equal((await kiln(["port", "web"], { home })).stdout, listed);
  assert.equal((await kiln(["port", "ls", "web"], { home })).stdout, listed);
  assert.equal((await kiln(["port", "web", "53/udp"], { home })).stdout, "[::1]:5353\n");
  assert.deepEqual(JSON.parse((await kiln(["port", "web", "--json"], { home })).stdout), [WEB, DNS]);
  const missing = await kiln(["port", "web", "81", "--json"], { home });
  assert.deepEqual([missing.exitCode, missing.stdout], [1, ""]);
  assert.match(missing.stderr, /"code":"PORT_NOT_FOUND"/);
});

test("port add sends what was asked and prints the address that it got", async () => {
  await using stub = await withPorts();
  stub.on("POST", "/v1/vms/web/ports", ({ body }) => ({ json: { ...WEB, ...(JSON.parse(body.toString()) as object), hostPort: 40_000 } }));
  const { home } = stub;
  const added = await kiln(["port", "add", "web", "80", "[::1]:53:53/udp"], { home });
  assert.deepEqual([added.exitCode, added.stdout, added.stderr], [0, "127.0.0.1:40000\n[::1]:40000\n", ""]);
  assert.deepEqual(JSON.parse((await kiln(["port", "add", "--json", "web", "80"], { home })).stdout), { ...WEB, hostPort: 40_000 });
  const bodies = stub.requests.map(({ body }) => JSON.parse(body.toString()) as unknown);
  assert.deepEqual(bodies[1], { hostIp: "::1", hostPort: 53, guestPort: 53, protocol: "udp" });
});

test("port rm asks for all that lead to a port of the guest, or for one address", async () => {
  await using stub = await withPorts();
  stub.on("DELETE", "/v1/vms/web/ports", () => ({ bytes: new Uint8Array(0) }));
  const { home } = stub;
  assert.equal((await kiln(["port", "rm", "web", "80"], { home })).exitCode, 0);
  assert.equal((await kiln(["port", "rm", "web", "127.0.0.1:8080:80"], { home })).stdout, "127.0.0.1:8080:80\n");
  const queries = stub.requests.map(({ query }) => query.toString());
  assert.deepEqual(queries, ["guestPort=80&protocol=tcp", "guestPort=80&protocol=tcp&hostIp=127.0.0.1&hostPort=8080"]);
});

test("words that are no port are refused before anything is sent", async () => {
  await using stub = await withPorts();
  for (const argv of [
    ["port", "add", "web", "80:"],
    ["port", "rm", "web", "x"],
    ["port", "web", "8000-8010"],
    ["run", "-p", "1:2:3:4", "image"],
    ["port"],
  ]) {
    const run = await kiln(argv, { home: stub.home });
    assert.deepEqual([run.exitCode, run.stdout], [2, ""], run.stderr);
  }
  assert.equal(stub.requests.length, 0);
});
