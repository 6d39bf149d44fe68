import assert from "node:assert/strict";
import { test } from "node:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const ADDRESSES = [
  "8.8.4.4/32",
  "8.8.8.8/32",
  "10.1.1.1/32",
  "10.1.1.2/32",
  "100.64.0.1/32",
  "169.254.169.254/32",
  "169.254.1.1/32",
  "fd12::1/128",
  "2001:4860::8888/128",
];

test("registries point to public addresses and to their own neighbourhood, judged on the connection", async () => {
  const file = fileURLToPath(new URL("testing/points-elsewhere.ts", import.meta.url));
  const commands = [
    "busybox ip link set lo up",
    ...ADDRESSES.map((address) => `busybox ip addr add ${address} dev lo`),
    // what is sent there comes back and is nobody's
    "busybox ip route add 192.168.77.0/24 dev lo",
    'exec "$0" --test --test-reporter=tap "$1"',
  ];
  const asRoot = process.getuid?.() === 0 ? [] : ["--map-root-user"];
  const { NODE_TEST_CONTEXT: _context, ...env } = process.env;
  const args = [...asRoot, "--net", "sh", "-euc", commands.join("\n"), process.execPath, file];
  const child = spawn("unshare", args, { env, stdio: ["ignore", "pipe", "inherit"], timeout: 60_000 });
  const exited = once(child, "exit");
  const stdout = await text(child.stdout);
  await exited;
  assert.equal(child.exitCode, 0, stdout);
  const [, passed] = /^# pass (\d+)$/m.exec(stdout) ?? [];
  assert.ok(Number(passed) >= 30, stdout);
  assert.match(stdout, /^# fail 0$/m);
});
